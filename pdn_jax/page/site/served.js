// The engine behind `python -m pdn_jax serve`: photographs go to that process and to nothing else.

import { around, meanPath, shares } from "./dial.js";

async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer: start pdn_jax serve once more, and open its address.");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Error(said.error ?? `The server could not do that (${answer.status}).`);
}

/** While a task waits or is worked on, say how many there are before it. */
async function inLine(report, task) {
  const timer = setInterval(async () => {
    try {
      const { length } = await (await call("queue")).json();
      report(length > 1 ? `${length} photographs are in the queue` : "");
    } catch {
      // the task itself says what is wrong
    }
  }, 1000);
  try {
    return await task;
  } finally {
    clearInterval(timer);
  }
}

function planesOf(buffer) {
  const start = 4 + new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, start - 4)));
  const arrays = {};
  let at = start;
  for (const { name, shape, type } of head.arrays) {
    const count = shape.reduce((a, b) => a * b, 1);
    const Kind = type === "float32" ? Float32Array : Uint8Array;
    arrays[name] = { shape, data: new Kind(buffer, at, count) };
    at += Math.ceil((count * Kind.BYTES_PER_ELEMENT) / 4) * 4;
  }
  return { head, arrays };
}

function picture({ shape: [height, width], data }) {
  const rgba = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let i = 0, j = 0; i < data.length; i += 3, j += 4) {
    rgba[j] = data[i];
    rgba[j + 1] = data[i + 1];
    rgba[j + 2] = data[i + 2];
  }
  return { width, height, rgba };
}

/** Shares of the part that the network saw, 0 around it, which leaves pixels as they are. */
function sharesIn(width, height, [top, left, rows, columns], grid) {
  const all = new Float32Array(3 * width * height);
  if (rows === 0) return all;
  const part = { top: 0, left: 0, width: columns, height: rows };
  const inner = shares(grid, part, meanPath(grid, columns, rows));
  return around(all, inner, { top, left }, part, { width, height });
}

export class Engine {
  constructor(config) {
    this.config = config;
  }

  async add(file) {
    const path = `photos?name=${encodeURIComponent(file.name)}`;
    return await (await call(path, { method: "POST", body: file })).json();
  }

  remove(photo) {
    call(`photos/${photo.id}`, { method: "DELETE" }).catch(() => {});
  }

  async preview(photo, variant, report, signal) {
    const path = `photos/${photo.id}/preview?weights=${encodeURIComponent(variant)}`;
    const answer = await inLine(report, call(path, { method: "POST", signal }));
    const { head, arrays } = planesOf(await answer.arrayBuffer());
    const { before, brightened, restored, path: grid, ...strip } = arrays;
    const [, height, width] = before.shape;
    const [, rows, columns] = grid.shape;
    return {
      width,
      height,
      full: head.full,
      before: before.data,
      brightened: brightened.data,
      restored: restored.data,
      shares: sharesIn(width, height, head.region, { path: grid.data, rows, columns }),
      strip: Object.entries(strip).map(([name, array]) => ({ name, ...picture(array) })),
    };
  }

  async before(photo, signal) {
    const answer = await call(`photos/${photo.id}/before`, { signal });
    return await createImageBitmap(await answer.blob());
  }

  async #result(photo, variant, dials, report, signal, look) {
    const asked = new URLSearchParams({ weights: variant, ...dials, ...(look ? { look: 1 } : {}) });
    const path = `photos/${photo.id}/result?${asked}`;
    return await inLine(report, call(path, { method: "POST", signal }));
  }

  /** At full size, to be looked at. */
  async after(photo, variant, dials, report, signal) {
    const answer = await this.#result(photo, variant, dials, report, signal, true);
    return await createImageBitmap(await answer.blob());
  }

  /** At full size, in the format that came. */
  async result(photo, variant, dials, report, signal) {
    const answer = await this.#result(photo, variant, dials, report, signal, false);
    const said = (name) => JSON.parse(answer.headers.get(name) ?? "[]");
    const lost = said("x-lost");
    return { name: photo.result, blob: await answer.blob(), lost, notes: said("x-notes") };
  }
}
