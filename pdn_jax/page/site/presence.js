// Where a photograph is one, not in black bars; its black that stays, and grey: as photos/presence.py.

import { CELL } from "./pictures.js";

const [BAR, PURE] = [4, 0.98];
const [RIM, BLOCK] = [0.25, 18];
const [NOTHING, FAINT, SPARK] = [1.5, 2.5, 8];
const SHARE = 0.005;
const SMALLEST = 16;
export const BLACK = "nothing in it but black: left as it is";
export const CLEAR = "all of it is transparent: left as it is";

function median(values) {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** How many lines behind a bar are what a JPEG made of its end. */
function rim(means, behindABar) {
  if (!behindABar || means.length < 2 * BLOCK) return 0;
  const least = RIM * median(means.slice(BLOCK, 2 * BLOCK));
  return Math.max(0, means.slice(0, BLOCK).findIndex((mean) => mean >= least));
}

/** What the lines of a part hold, rows (axis 0) or columns: the largest seen, the mean, whether it is a bar. */
function lines({ light, there, width }, [[top, bottom], [left, right]], axis) {
  const [count, across] = axis === 0 ? [bottom - top, right - left] : [right - left, bottom - top];
  const [largest, pure, sum] = [new Uint8Array(count), new Uint32Array(count), new Float64Array(count)];
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const at = y * width + x;
      const line = axis === 0 ? y - top : x - left;
      const seen = there === null || there[at] > 0;
      if (seen && light[at] > largest[line]) largest[line] = light[at];
      if (!seen || light[at] === 0) pure[line]++;
      sum[line] += light[at];
    }
  }
  // A line of which nothing is there is one, too: all of it counts as black.
  const bar = Array.from(largest, (most, i) => most <= BAR && pure[i] / across >= PURE);
  return { bar, means: Array.from(sum, (all) => all / across) };
}

/** Rows and columns that hold the picture, null where there is none. */
function box(image) {
  let sides = [[0, image.height], [0, image.width]];
  for (let round = 0; round < 4; round++) {
    const before = JSON.stringify(sides);
    for (const axis of [0, 1]) {
      const { bar, means } = lines(image, sides, axis);
      let first = bar.indexOf(false);
      if (first < 0) return null;
      let end = bar.lastIndexOf(false) + 1;
      const opaque = image.there === null;
      first += rim(means.slice(first), opaque && first > 0);
      end -= rim(means.slice(first, end).reverse(), opaque && end < bar.length);
      const start = sides[axis][0];
      sides[axis] = [start + first, start + end];
    }
    if (JSON.stringify(sides) === before) break;
  }
  return sides;
}

function atLeast([start, stop], length) {
  const missing = Math.max(0, SMALLEST - (stop - start));
  if (missing === 0) return [start, stop];
  const from = Math.min(Math.max(0, start - (missing >> 1)), Math.max(0, length - SMALLEST));
  return [from, Math.min(length, from + SMALLEST)];
}

/** Means of a plane in every whole square of 8×8. */
function cellMeans(plane, width, height) {
  const [rows, columns] = [Math.floor(height / CELL), Math.floor(width / CELL)];
  const means = new Float32Array(rows * columns);
  for (let y = 0; y < rows * CELL; y++) {
    for (let x = 0; x < columns * CELL; x++) means[(y >> 3) * columns + (x >> 3)] += plane[y * width + x] / 64;
  }
  return means;
}

function isFaint(data, { there, width, height, most }) {
  if (most > SPARK) return false;
  const grey = Float32Array.from({ length: width * height }, (_, i) => {
    return there === null || there[i] > 0 ? (data[4 * i] + data[4 * i + 1] + data[4 * i + 2]) / 3 : 0;
  });
  return cellMeans(grey, width, height).every((mean) => mean <= FAINT);
}

/** Which squares no light fell on; null if too few to speak of. */
function unlitCells({ light, there, width, height }) {
  const unlit = Array.from(cellMeans(light, width, height), (mean) => mean <= 1);
  if (there !== null) {
    const columns = Math.floor(width / CELL);
    for (let y = 0; y < Math.floor(height / CELL) * CELL; y++) {
      for (let x = 0; x < columns * CELL; x++) {
        if (there[y * width + x] === 0) unlit[(y >> 3) * columns + (x >> 3)] = false;
      }
    }
  }
  return unlit.filter(Boolean).length / unlit.length > SHARE / 2 ? unlit : null;
}

function planesIn({ data, width, height }) {
  const count = width * height;
  const [light, alpha] = [new Uint8Array(count), new Uint8Array(count)];
  let [most, clear, visible, grey] = [0, false, 0, true];
  for (let i = 0, j = 0; i < count; i++, j += 4) {
    const [red, green, blue] = [data[j], data[j + 1], data[j + 2]];
    const bright = red > green ? (red > blue ? red : blue) : green > blue ? green : blue;
    light[i] = bright;
    alpha[i] = data[j + 3];
    if (bright > most) most = bright;
    if (alpha[i] === 0) clear = true;
    else visible++;
    if (red !== green || green !== blue) grey = false;
  }
  return { light, there: clear ? alpha : null, most, visible, grey, width, height };
}

/**
 * The part of a photograph that is one: {top, left, image, unlit, grey, clear}, `image` as
 * ImageData, `clear` if some of it is transparent; or {note}, why it is left as it is.
 */
export function place(image) {
  const whole = planesIn(image);
  if (whole.visible === 0) return { note: CLEAR };
  const inside = box(whole);
  if (inside === null || whole.most < NOTHING || isFaint(image.data, whole)) return { note: BLACK };
  const [top, bottom] = atLeast(inside[0], image.height);
  const [left, right] = atLeast(inside[1], image.width);
  const [width, height] = [right - left, bottom - top];
  if (width === image.width && height === image.height) {
    return { top, left, image, unlit: unlitCells(whole), grey: whole.grey, clear: whole.there !== null };
  }
  const part = new ImageData(width, height);
  for (let y = 0; y < height; y++) {
    const from = 4 * ((top + y) * image.width + left);
    part.data.set(image.data.subarray(from, from + 4 * width), 4 * y * width);
  }
  const planes = planesIn(part);
  return { top, left, image: part, unlit: unlitCells(planes), grey: planes.grey, clear: planes.there !== null };
}

// --- after the network ---------------------------------------------------------------------------

const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
const encoded = (light) => (light <= 0.0031308 ? 12.92 * light : 1.055 * light ** (1 / 2.4) - 0.055);

/** The light that the network put where there was none, of red, green and blue. */
function veilOf(light, padded, rows, unlit, width) {
  const columns = Math.floor(width / CELL);
  const cells = [...unlit.keys()].filter((i) => unlit[i]);
  const part = Math.min(1, (2 * cells.length) / unlit.length / SHARE - 1);
  return [0, 1, 2].map((channel) => {
    const means = cells.map((cell) => {
      const [top, left] = [CELL * Math.floor(cell / columns), CELL * (cell % columns)];
      let sum = 0;
      for (let i = 0; i < 64; i++) sum += light((channel * rows + top + (i >> 3)) * padded + left + (i & 7));
      return sum / 64;
    });
    return part * median(means);
  });
}

/**
 * Planes of the network's, changed in place: the veil over black taken away, and grey for grey.
 * planes: white is `white`; their lines have `padded` values, of which the first `width` count.
 */
export function mended(planes, { unlit, grey, image: { width, height } }, padded = width, white = 1) {
  if (unlit === null && !grey) return planes;
  const rows = planes.length / 3 / padded;
  const table = Float32Array.from({ length: 65536 }, (_, i) => linear(i / 65535));
  const back = Float32Array.from({ length: 65536 }, (_, i) => encoded((i / 65535) ** 2));
  const light = (at) => table[Math.round(Math.min(1, Math.max(0, planes[at] / white)) * 65535)];
  const veil = unlit === null ? [0, 0, 0] : veilOf(light, padded, rows, unlit, width);
  const round = white === 1 ? 0 : 0.5;
  const lit = [0, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++) {
        const value = light((channel * rows + y) * padded + x);
        lit[channel] = Math.max(0, (value - veil[channel]) / (1 - veil[channel]));
      }
      if (grey) lit.fill(0.2126 * lit[0] + 0.7152 * lit[1] + 0.0722 * lit[2]);
      for (let channel = 0; channel < 3; channel++) {
        const value = back[Math.round(Math.sqrt(Math.min(1, lit[channel])) * 65535)];
        planes[(channel * rows + y) * padded + x] = value * white + round;
      }
    }
  }
  return planes;
}
