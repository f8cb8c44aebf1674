// The dials: another exposure and strength of denoising from what the network has made, as dial.py.
// Pictures are planes [3, h, w]: all of red, then green, then blue. The grid has a cell for 8×8 pixels.

export const CURVE_A = -0.3293;
export const CURVE_B = 1.1258;
export const FLOOR = 1 / 1020;
const SOFTENING = 0.05;
const CELL = 8;

/** Where a pixel lies between two cells of a line: the first, the second, and the part of the second. */
function between(pixel, cells) {
  const at = (pixel + 0.5) / CELL - 0.5;
  const before = Math.floor(at);
  const last = cells - 1;
  return [Math.min(Math.max(before, 0), last), Math.min(Math.max(before + 1, 0), last), at - before];
}

/**
 * The network's path, ln k per pixel, of a part of a photograph: its curve's exponents in straight lines.
 * grid: {path, rows, columns}, ln k of planes. Calls use(index, values) for every row of every plane;
 * the values are good until the next call.
 */
function eachRow(grid, part, use) {
  const { rows, columns } = grid;
  const exponents = Float32Array.from(grid.path, (value) => Math.exp(CURVE_A * value));
  const across = Array.from({ length: part.width }, (_, x) => between(part.left + x, columns));
  const first = Int32Array.from(across, (each) => each[0]);
  const second = Int32Array.from(across, (each) => each[1]);
  const share = Float32Array.from(across, (each) => each[2]);
  const line = new Float32Array(columns);
  const values = new Float32Array(part.width);
  for (let channel = 0; channel < 3; channel++) {
    for (let y = 0; y < part.height; y++) {
      const [above, below, down] = between(part.top + y, rows);
      const a = (channel * rows + above) * columns;
      const b = (channel * rows + below) * columns;
      for (let x = 0; x < columns; x++) {
        line[x] = exponents[a + x] + down * (exponents[b + x] - exponents[a + x]);
      }
      for (let x = 0; x < part.width; x++) {
        const left = line[first[x]];
        values[x] = Math.log(left + share[x] * (line[second[x]] - left)) / CURVE_A;
      }
      use((channel * part.height + y) * part.width, values);
    }
  }
}

/** The mean of the path over a photograph of this size. */
export function meanPath(grid, width, height) {
  let sum = 0;
  eachRow(grid, { top: 0, left: 0, width, height }, (_, values) => {
    for (let x = 0; x < width; x++) sum += values[x];
  });
  return sum / (3 * width * height);
}

/**
 * How far each pixel and channel of a part walks the path when the dial is moved, for a mean of 1:
 * all channels together, but apart where little was brightened. Planes.
 */
export function shares(grid, part, mean) {
  const count = part.width * part.height;
  const path = new Float32Array(3 * count);
  eachRow(grid, part, (index, values) => path.set(values, index));
  for (let i = 0; i < count; i++) {
    const together = (path[i] + path[count + i] + path[2 * count + i]) / 3;
    const ratio = 2 - (4 * (together + SOFTENING)) / (mean + SOFTENING);
    const apart = Math.min(Math.max(ratio, 0), 1);
    for (let j = i; j < 3 * count; j += count) {
      path[j] = (together + apart * (path[j] - together) + SOFTENING) / (mean + SOFTENING);
    }
  }
  return path;
}

/** Planes of a part of a picture, and around it those of the whole. */
export function around(planes, part, { top, left }, inner, { width, height }) {
  const result = planes.slice();
  for (let line = 0; line < 3 * inner.height; line++) {
    const [channel, y] = [Math.floor(line / inner.height), top + (line % inner.height)];
    const values = part.subarray(line * inner.width, (line + 1) * inner.width);
    result.set(values, (channel * height + y) * width + left);
  }
  return result;
}

function curve(value, steps, share) {
  const stops = Math.log(value > FLOOR ? value : FLOOR);
  return Math.exp(CURVE_B + Math.exp(steps * share) * (stops - CURVE_B));
}

/**
 * The dials at work, exactly: writes red, green and blue into RGBA of 8 bits, from the pixel `start`
 * of the planes on. made: {brightened, restored, shares}, planes, white 1. exposure: above 0, 1 for
 * the network's own. denoise: from 0 to 1.
 */
export function apply(target, made, { exposure, denoise }, start = 0) {
  const { brightened, restored } = made;
  const size = restored.length / 3;
  const steps = CURVE_A * Math.log(exposure);
  for (let channel = 0; channel < 3; channel++) {
    let from = channel * size + start;
    for (let to = channel; to < target.length; to += 4, from++) {
      let value = denoise * restored[from] + (1 - denoise) * brightened[from];
      if (exposure !== 1) value = curve(value, steps, made.shares[from]);
      target[to] = 255 * value; // clamped and rounded by the array
    }
  }
}

const BINS = 512;

/** The same for a picture of 8 bits that is looked at, by a table, to about a level: for a dial that moves. */
export class Quick {
  /** made: as `apply` takes it, but white 255, Uint8Array. Its shares are not kept. */
  constructor({ shares, ...made }) {
    this.made = made;
    let most = 0;
    let least = 0;
    for (const share of shares) {
      if (share > most) most = share;
      if (share < least) least = share;
    }
    this.least = least;
    this.step = (most - least) / (BINS - 1) || 1;
    this.bins = new Uint16Array(shares.length);
    for (let i = 0; i < this.bins.length; i++) this.bins[i] = Math.round((shares[i] - least) / this.step);
  }

  apply(target, { exposure, denoise }) {
    const { brightened, restored } = this.made;
    const { bins } = this;
    const table = this.table(exposure);
    const size = restored.length / 3;
    const strong = Math.round(256 * denoise);
    const weak = 256 - strong;
    for (let channel = 0; channel < 3; channel++) {
      let from = channel * size;
      for (let to = channel; to < target.length; to += 4, from++) {
        const level = (strong * restored[from] + weak * brightened[from] + 128) >> 8;
        target[to] = table === null ? level : table[(bins[from] << 8) | level];
      }
    }
  }

  /** By bin and level, the new level; null where the dial stands at 1. */
  table(exposure) {
    if (exposure === 1) return null;
    const table = new Uint8ClampedArray(256 * BINS);
    const steps = CURVE_A * Math.log(exposure);
    const stops = Float64Array.from({ length: 256 }, (_, i) => Math.log(Math.max(i / 255, FLOOR)) - CURVE_B);
    for (let bin = 0, at = 0; bin < BINS; bin++) {
      const exponent = Math.exp(steps * (this.least + bin * this.step));
      for (let level = 0; level < 256; level++, at++) {
        table[at] = 255 * Math.exp(CURVE_B + exponent * stops[level]);
      }
    }
    return table;
  }
}
