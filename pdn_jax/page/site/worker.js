// One photograph after the other through a network, by ONNX Runtime, beside the page: as enhancer.py.
// The whole photograph is looked at on its 1/8 grid; what is full-size is made in tiles that overlap.

import { apply, around, meanPath, shares } from "./dial.js";
import { CELL, decoded, levels, mirrored, observe, pixels, planesOf, up } from "./pictures.js";
import { mended, place } from "./presence.js";
import { stripOf } from "./strip.js";

const SCREEN = 1280;
const TILE = 1024;

let started;
const networks = new Map();
const cancelled = new Set();

async function suited({ wasm, webgpu }) {
  const adapter = webgpu && (await navigator.gpu?.requestAdapter().catch(() => null));
  return { adapter, urls: adapter ? webgpu : wasm };
}

/** ONNX Runtime: the small one, or the one that has WebGPU where there is such a device. */
async function start(runtime) {
  const { adapter, urls } = await suited(runtime);
  const [main, glue, binary] = urls;
  const ort = await import(main);
  const numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  Object.assign(ort.env.wasm, { wasmPaths: { mjs: glue, wasm: binary }, numThreads });
  ort.env.logLevel = "error";
  return { ort, executionProviders: adapter ? ["webgpu", "wasm"] : ["wasm"] };
}

/** For a time without a network; see worker-offline.js, which keeps all else. */
async function keep(runtime) {
  const { urls } = await suited(runtime);
  const cache = await caches.open("pdn_jax-runtime");
  for (const { url } of await cache.keys()) if (!urls.includes(url)) await cache.delete(url);
  for (const url of urls) if (!(await cache.match(url))) await cache.add(url);
}

async function session(url, executionProviders) {
  const { ort } = await started;
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} is missing beside the page`);
  const data = new Uint8Array(await answer.arrayBuffer());
  return await ort.InferenceSession.create(data, { executionProviders });
}

/**
 * Its two parts, one after the other: WebGPU takes no two at once. The one for the whole is small, and
 * comes out wrong there (ONNX Runtime Web 1.30), so it is a processor's; tiles come out right.
 */
async function opened({ files: [whole, tile], runtime }) {
  started ??= start(runtime);
  const { executionProviders } = await started;
  return [await session(whole, ["wasm"]), await session(tile, executionProviders)];
}

async function loaded(network) {
  if (!networks.has(network.name)) networks.set(network.name, opened(network));
  try {
    return await networks.get(network.name);
  } catch (error) {
    networks.delete(network.name);
    started = undefined;
    if (error instanceof RangeError) throw error; // memory
    const [reason] = error.message.split("\n");
    throw new Error(`The network ${network.name} cannot be loaded (${reason}): see to the connection, and load the page again.`);
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

// --- a photograph through it ---------------------------------------------------------------------

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

// --- bars and black ------------------------------------------------------------------------------

/** Where lines of a result go: into the whole at once, or into finer planes where those are mended first. */
function sheet(whole, where) {
  const { top, left, image, unlit, grey } = where;
  const target = whole.data.slice();
  const at = (x, y) => 4 * ((top + y) * whole.width + left + x);
  if (unlit === null && !grey) {
    const line = (y, from, end, write) => write(target.subarray(at(from, y), at(end, y)));
    return { line, done: () => target };
  }
  const { width, height } = image;
  const fine = new Uint16Array(3 * width * height);
  const line = (y, from, end, write) => {
    const values = new Float32Array(4 * (end - from));
    write(values);
    for (let channel = 0; channel < 3; channel++) {
      for (let i = channel, to = (channel * height + y) * width + from; i < values.length; i += 4, to++) {
        fine[to] = Math.min(65535, Math.max(0, 257 * values[i])) + 0.5;
      }
    }
  };
  const done = () => {
    mended(fine, where, width, 65535);
    for (let index = 0; index < fine.length; index++) {
      const [channel, pixel] = [Math.floor(index / width / height), index % (width * height)];
      target[at(pixel % width, Math.floor(pixel / width)) + channel] = fine[index] / 257;
    }
    return target;
  };
  return { line, done };
}

// --- tasks ---------------------------------------------------------------------------------------

const tasks = {
  async keep({ runtime }) {
    await keep(runtime);
  },

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
    const whole = pixels(bitmap, width, height);
    const [before, none] = [planesOf(whole), new Float32Array(3 * width * height)];
    const facts = { width, height, full, before };
    const where = place(whole);
    if (where.note) return { ...facts, brightened: before, restored: before, shares: none, strip: [] };
    const { image } = where;
    const estimate = await estimated(image, network);
    const [tile] = tilesOf(image, 0, Infinity);
    const made = await rendered(image, estimate, tile, network);
    const part = { top: 0, left: 0, width: image.width, height: image.height };
    const strip = stripOf(planesOf(image), part.width, part.height, estimate, made, network);
    const [brightened, restored] = ["brightened", "restored"].map((name) => {
      const padded = up(part.width);
      const planes = mended(made[name].data, where, padded);
      return around(before, levels(planes, padded, part.width, part.height), where, image, whole);
    });
    const inner = shares(estimate, part, meanPath(estimate, part.width, part.height));
    return { ...facts, brightened, restored, shares: around(none, inner, where, image, whole), strip };
  },

  async result({ id, file, network, dials, type }) {
    const bitmap = await decoded(file);
    const whole = pixels(bitmap, bitmap.width, bitmap.height);
    const where = place(whole);
    if (where.note) return await written(whole, type, [where.note]);
    const { image, clear } = where;
    const { width, height } = image;
    const target = sheet(whole, where);
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
        const start = (y - row.begin) * part.width + column.from - column.begin;
        target.line(y, column.from, end, (line) => apply(line, made, dials, start));
      }
    }
    const notes = clear ? ["what is transparent was seen as black"] : [];
    return await written(new ImageData(target.done(), whole.width, whole.height), type, notes);
  },
};

/** To be looked at where no type is asked for, else a file and what is to be said of it. */
async function written(image, type, notes) {
  if (!type) return await createImageBitmap(image);
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return { blob: await canvas.convertToBlob({ type, quality: 0.95 }), notes };
}

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
  else if (data.task === "keep") answer(data); // beside the photographs
  else last = last.then(() => answer(data));
};
