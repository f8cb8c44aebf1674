// One photograph after the other through a network, by ONNX Runtime, beside the page: as enhancer.py.
// The whole photograph is looked at on its 1/8 grid; what is full-size is made in tiles that overlap.

import { CURVE_A, CURVE_B, FLOOR, apply, meanPath, shares } from "./dial.js";

const CELL = 8;
const SCREEN = 1280;
const TILE = 1024;
const THUMBNAIL = 120;

let started;
const networks = new Map();
const cancelled = new Set();

/** ONNX Runtime: the small one, or the one that has WebGPU where there is such a device. */
async function start(version) {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const url = (name) => new URL(`runtime-${version}-${name}`, import.meta.url).href;
  const main = url(adapter ? "ort.webgpu.min.mjs" : "ort.wasm.min.mjs");
  const stem = url(`ort-wasm-simd-threaded${adapter ? ".asyncify" : ""}`);
  const wasmPaths = { mjs: `${stem}.mjs`, wasm: `${stem}.wasm` };
  const ort = await import(main);
  const numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  Object.assign(ort.env.wasm, { wasmPaths, numThreads });
  ort.env.logLevel = "error";
  keep([main, ...Object.values(wasmPaths)]).catch(() => {}); // then it needs the network next time
  return { ort, executionProviders: adapter ? ["webgpu", "wasm"] : ["wasm"] };
}

/** For the next time, without a network; see worker-offline.js. */
async function keep(urls) {
  const cache = await caches.open("pdn_jax-runtime");
  for (const { url } of await cache.keys()) if (!urls.includes(url)) await cache.delete(url);
  for (const url of urls) if (!(await cache.match(url))) await cache.add(url);
}

async function session(file, version) {
  started ??= start(version);
  const { ort, executionProviders } = await started;
  const answer = await fetch(new URL(file, import.meta.url));
  if (!answer.ok) throw new Error(`${file} is missing beside the page: write the folder anew.`);
  const data = new Uint8Array(await answer.arrayBuffer());
  return await ort.InferenceSession.create(data, { executionProviders });
}

async function loaded(network) {
  if (!networks.has(network.name)) {
    networks.set(network.name, Promise.all(network.files.map((file) => session(file, network.runtime))));
  }
  try {
    return await networks.get(network.name);
  } catch (error) {
    networks.delete(network.name);
    started = undefined;
    throw error;
  }
}

async function run(model, values) {
  const { ort } = await started;
  const feeds = {};
  for (const name of model.inputNames) {
    const { data, dims } = values[name];
    feeds[name] = new ort.Tensor("float32", data, dims);
  }
  return await model.run(feeds);
}

// --- photographs ---------------------------------------------------------------------------------

async function decoded(file) {
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

function pixels(bitmap, width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("This browser has no room for that photograph: scale it down.");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

const up = (length) => Math.ceil(length / CELL) * CELL;

/** Indices of pixels, mirrored beyond the last. */
function mirrored(begin, end, length) {
  return Int32Array.from({ length: end - begin }, (_, i) => {
    return begin + i < length ? begin + i : 2 * length - 1 - begin - i;
  });
}

/** Means and textures of 8×8 pixels, planes: as layout.observe. */
function observe({ data, width, height }, texture) {
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

/** What the network estimates from the whole of it. */
async function estimated(image, network) {
  const [whole] = await loaded(network);
  const { rows, columns, small, texture } = observe(image, network.texture);
  const dims = [1, 3, rows, columns];
  const made = await run(whole, { small: { data: small, dims }, texture: { data: texture, dims } });
  const stages = made.stages.data;
  const path = stages.slice(stages.length - 3 * rows * columns);
  const estimate = { rows, columns, path, stages, black: made.black.data };
  for (const name of ["context", "noise"]) if (made[name]) estimate[name] = made[name].data;
  return estimate;
}

// --- tiles ---------------------------------------------------------------------------------------

/** Spans of one side: what is computed, and what of it is kept. */
function along(length, overlap, largest) {
  if (length <= largest) return [{ begin: 0, end: length, from: 0, until: length }];
  const spans = [];
  for (let from = 0; from < length; from = spans.at(-1).until) {
    const begin = Math.max(from - overlap, 0);
    const end = Math.min(begin + largest, length);
    spans.push({ begin, end, from, until: end === length ? length : end - overlap });
  }
  return spans;
}

function tilesOf({ width, height }, overlap, largest) {
  const columns = along(up(width), overlap, largest);
  return along(up(height), overlap, largest).flatMap((row) => columns.map((column) => ({ row, column })));
}

function cut(grid, columns, planes, { row, column }) {
  const [top, bottom, left, right] = [row.begin, row.end, column.begin, column.end].map((n) => n / CELL);
  const rows = grid.length / planes / columns;
  const data = new Float32Array(planes * (bottom - top) * (right - left));
  let to = 0;
  for (let plane = 0; plane < planes; plane++) {
    for (let y = top; y < bottom; y++, to += right - left) {
      const begin = (plane * rows + y) * columns;
      data.set(grid.subarray(begin + left, begin + right), to);
    }
  }
  return { data, dims: [1, planes, bottom - top, right - left] };
}

async function rendered(image, estimate, tile, network) {
  const [, model] = await loaded(network);
  const { row, column } = tile;
  const xs = mirrored(column.begin, column.end, image.width);
  const ys = mirrored(row.begin, row.end, image.height);
  const count = xs.length * ys.length;
  const data = new Float32Array(3 * count);
  for (let y = 0, to = 0; y < ys.length; y++) {
    for (let x = 0; x < xs.length; x++, to++) {
      const from = 4 * (ys[y] * image.width + xs[x]);
      for (let channel = 0; channel < 3; channel++) {
        data[channel * count + to] = image.data[from + channel] / 255;
      }
    }
  }
  const { columns } = estimate;
  const values = {
    low: { data, dims: [1, 3, ys.length, xs.length] },
    black: { data: estimate.black, dims: [1, 3, 1, 1] },
  };
  for (const name of ["path", "noise", "context"]) {
    if (!estimate[name]) continue;
    const planes = estimate[name].length / (estimate.rows * columns);
    values[name] = cut(estimate[name], columns, planes, tile);
  }
  return await run(model, values);
}

/** A part of planes that are padded on the right and below, as 8 bits. */
function levels(planes, padded, width, height) {
  const result = new Uint8ClampedArray(3 * width * height);
  const rows = planes.length / 3 / padded;
  for (let line = 0, to = 0; line < 3 * height; line++) {
    const from = (Math.floor(line / height) * rows + (line % height)) * padded;
    for (let x = 0; x < width; x++, to++) result[to] = 255 * planes[from + x];
  }
  return new Uint8Array(result.buffer);
}

function planesOf({ data, width, height }) {
  const count = width * height;
  const planes = new Uint8Array(3 * count);
  for (let i = 0; i < count; i++) {
    for (let channel = 0; channel < 3; channel++) planes[channel * count + i] = data[4 * i + channel];
  }
  return planes;
}

// --- the strip of stages -------------------------------------------------------------------------

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

function stripOf(before, width, height, estimate, made, network) {
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

// --- tasks ---------------------------------------------------------------------------------------

const tasks = {
  async size({ file }) {
    const bitmap = await decoded(file);
    const { width, height } = bitmap;
    bitmap.close();
    return { width, height };
  },

  async preview({ file, network }) {
    const bitmap = await decoded(file);
    const full = [bitmap.width, bitmap.height];
    const scale = Math.min(1, Math.max(SCREEN / Math.max(...full), 16 / Math.min(...full)));
    const [width, height] = full.map((side) => Math.max(16, Math.round(scale * side)));
    const image = pixels(bitmap, width, height);
    const estimate = await estimated(image, network);
    const [tile] = tilesOf(image, 0, Infinity);
    const made = await rendered(image, estimate, tile, network);
    const before = planesOf(image);
    const part = { top: 0, left: 0, width, height };
    const [brightened, restored] = ["brightened", "restored"].map((name) => {
      return levels(made[name].data, up(width), width, height);
    });
    return {
      ...{ width, height, full, before, brightened, restored },
      shares: shares(estimate, part, meanPath(estimate, width, height)),
      strip: stripOf(before, width, height, estimate, made, network),
    };
  },

  async result({ id, file, network, dials, type }) {
    const bitmap = await decoded(file);
    const { width, height } = bitmap;
    const image = pixels(bitmap, width, height);
    const target = image.data.slice();
    const estimate = await estimated(image, network);
    const mean = dials.exposure === 1 ? 0 : meanPath(estimate, width, height);
    const tiles = tilesOf(image, network.overlap, TILE);
    for (const [index, tile] of tiles.entries()) {
      if (cancelled.has(id)) return null;
      self.postMessage({ id, progress: index / tiles.length });
      const { row, column } = tile;
      const { brightened, restored } = await rendered(image, estimate, tile, network);
      const part = { top: row.begin, left: column.begin };
      part.width = column.end - column.begin;
      part.height = row.end - row.begin;
      const made = { brightened: brightened.data, restored: restored.data };
      if (mean) made.shares = shares(estimate, part, mean);
      const end = Math.min(column.until, width);
      for (let y = row.from; y < Math.min(row.until, height); y++) {
        const line = target.subarray(4 * (y * width + column.from), 4 * (y * width + end));
        apply(line, made, dials, (y - row.begin) * part.width + column.from - column.begin);
      }
    }
    const done = new ImageData(target, width, height);
    if (!type) return await createImageBitmap(done);
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").putImageData(done, 0, 0);
    return await canvas.convertToBlob({ type, quality: 0.95 });
  },
};

let last = Promise.resolve();

async function answer(message) {
  const { id, task } = message;
  try {
    if (cancelled.has(id)) return;
    self.postMessage({ id, result: await tasks[task](message) });
  } catch (error) {
    const text = error instanceof RangeError ? "This browser has not enough memory for that photograph: scale it down." : error.message;
    self.postMessage({ id, error: text });
  } finally {
    cancelled.delete(id);
  }
}

self.onmessage = ({ data }) => {
  if (data.task === "cancel") cancelled.add(data.id);
  else last = last.then(() => answer(data));
};
