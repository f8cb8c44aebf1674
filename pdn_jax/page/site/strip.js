// Every stage as a small picture: dark to light, coarse to fine.

import { CURVE_A, CURVE_B, FLOOR } from "./dial.js";
import { levels } from "./pictures.js";

const THUMBNAIL = 120;

/** Planes of 8 bits as a small picture. */
function thumbnail(name, planes, width, height) {
  const image = new ImageData(width, height);
  const count = width * height;
  for (let i = 0; i < count; i++) {
    for (let channel = 0; channel < 3; channel++) image.data[4 * i + channel] = planes[channel * count + i];
    image.data[4 * i + 3] = 255;
  }
  const scale = Math.min(1, THUMBNAIL / height);
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  const small = new OffscreenCanvas(Math.max(1, Math.round(scale * width)), Math.max(1, Math.round(scale * height)));
  const context = small.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, 0, 0, small.width, small.height);
  const rgba = context.getImageData(0, 0, small.width, small.height).data;
  return { name, width: small.width, height: small.height, rgba };
}

/** The photograph after the stage whose path is `totals`, as a small picture. */
function stage(name, { planes, width, height }, estimate, totals) {
  const { rows, columns, black } = estimate;
  const step = Math.max(1, Math.floor(height / (2 * THUMBNAIL)));
  const [w, h] = [Math.floor(width / step), Math.floor(height / step)];
  const image = new Uint8ClampedArray(3 * w * h);
  for (let channel = 0, to = 0; channel < 3; channel++) {
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++, to++) {
        const low = planes[(channel * height + y * step) * width + x * step] / 255 - black[channel];
        const cell = (channel * rows + ((y * step) >> 3)) * columns + ((x * step) >> 3);
        const exponent = Math.exp(CURVE_A * totals[cell]);
        image[to] = 255 * Math.exp(CURVE_B + exponent * (Math.log(Math.max(low, FLOOR)) - CURVE_B));
      }
    }
  }
  return thumbnail(name, image, w, h);
}

export function stripOf(before, width, height, estimate, made, network) {
  const low = { planes: before, width, height };
  const size = 3 * estimate.rows * estimate.columns;
  const strip = [thumbnail("dark", before, width, height)];
  for (let begin = 0; begin < estimate.stages.length; begin += size) {
    const totals = estimate.stages.subarray(begin, begin + size);
    strip.push(stage(`brighter ${begin / size + 1}`, low, estimate, totals));
  }
  for (let level = network.levels - 1; level >= 0; level--) {
    const { data, dims } = made[level ? `level${level}` : "restored"];
    const [w, h] = [Math.ceil(width / 2 ** level), Math.ceil(height / 2 ** level)];
    const name = level ? `denoised 1/${2 ** level}` : "denoised";
    strip.push(thumbnail(name, levels(data, dims[3], w, h), w, h));
  }
  return strip;
}
