// Photographs as the network takes them and gives them back, and their 1/8 grid: as layout.py.

export const CELL = 8;

export async function decoded(file) {
  try {
    return await createImageBitmap(file);
  } catch {
    const what = /\.(hei[cf]|hif)$/i.test(file.name) ? "is HEIC, which this browser does not read" : "";
    throw new Error(
      `${file.name} ${what || "is no photograph that this browser can read"}: ` +
        "take a JPEG, PNG, WebP or AVIF, or use pdn_jax serve.",
    );
  }
}

export function pixels(bitmap, width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("This browser has no room for that photograph: scale it down.");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

export const up = (length) => Math.ceil(length / CELL) * CELL;

/** Indices of pixels, mirrored beyond the last. */
export function mirrored(begin, end, length) {
  return Int32Array.from({ length: end - begin }, (_, i) => {
    return begin + i < length ? begin + i : 2 * length - 1 - begin - i;
  });
}

/** Means and textures of 8×8 pixels, planes: as layout.observe. */
export function observe({ data, width, height }, texture) {
  const [columns, rows] = [up(width) / CELL, up(height) / CELL];
  const xs = mirrored(0, up(width), width);
  const ys = mirrored(0, up(height), height);
  const small = new Float32Array(3 * rows * columns);
  const grain = new Float32Array(3 * rows * columns);
  const down = texture === "both";
  const scale = 1 / (CELL * CELL * 255);
  for (let y = 0; y < ys.length; y++) {
    const line = ys[y] * width;
    const next = ys[y + 1 < ys.length ? y + 1 : y - 1] * width; // the last as the one before
    const cells = (y >> 3) * columns;
    for (let x = 0; x < xs.length; x++) {
      const here = 4 * (line + xs[x]);
      const right = 4 * (line + xs[x + 1 < xs.length ? x + 1 : x - 1]);
      const below = 4 * (next + xs[x]);
      for (let channel = 0; channel < 3; channel++) {
        const value = data[here + channel];
        const cell = channel * rows * columns + cells + (x >> 3);
        const across = Math.abs(data[right + channel] - value);
        small[cell] += value;
        grain[cell] += down ? 0.5 * (across + Math.abs(data[below + channel] - value)) : across;
      }
    }
  }
  for (let i = 0; i < small.length; i++) {
    small[i] *= scale;
    grain[i] *= scale;
  }
  return { rows, columns, small, texture: grain };
}

/** A part of planes that are padded on the right and below, as 8 bits. */
export function levels(planes, padded, width, height) {
  const result = new Uint8ClampedArray(3 * width * height);
  const rows = planes.length / 3 / padded;
  for (let line = 0, to = 0; line < 3 * height; line++) {
    const from = (Math.floor(line / height) * rows + (line % height)) * padded;
    for (let x = 0; x < width; x++, to++) result[to] = 255 * planes[from + x];
  }
  return new Uint8Array(result.buffer);
}

export function planesOf({ data, width, height }) {
  const count = width * height;
  const planes = new Uint8Array(3 * count);
  for (let i = 0; i < count; i++) {
    for (let channel = 0; channel < 3; channel++) planes[channel * count + i] = data[4 * i + channel];
  }
  return planes;
}
