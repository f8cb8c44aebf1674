// The engine of the folder of files: the networks run in this browser, and nothing is uploaded.

const TYPES = { "image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp" };
const SMALLEST = 16;

/** Width and height as an image's header has them, null where the browser knows none. */
async function headed(file) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject }));
    return { width: image.naturalWidth, height: image.naturalHeight };
  } catch {
    return null;
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

export class Engine {
  #worker;
  #broken;
  #waiting = new Map();
  #count = 0;

  constructor(config) {
    this.config = config;
    this.#start();
    /** Whether all of it is kept, for a time without a network. */
    this.kept = this.#keep().catch(() => false);
  }

  #start() {
    this.#worker?.terminate();
    this.#worker = new Worker(this.#url("worker.js"), { type: "module" });
    this.#worker.onmessage = ({ data }) => {
      const task = this.#waiting.get(data.id);
      if (!task) return;
      if ("progress" in data) return task.report?.(data.text ?? "", data.progress);
      this.#waiting.delete(data.id);
      if ("error" in data) task.reject(new Error(data.error));
      else task.resolve(data.result);
    };
    this.#worker.onerror = (event) => {
      this.#broken = new Error(`The network could not be started (${event.message ?? "no worker"}): load the page again.`);
      for (const task of this.#waiting.values()) task.reject(this.#broken);
      this.#waiting.clear();
    };
  }

  async #keep() {
    if (this.config.urls || !("serviceWorker" in navigator)) return false;
    const first = !navigator.serviceWorker.controller;
    await navigator.serviceWorker.register("worker-offline.js");
    await Promise.all([navigator.serviceWorker.ready, this.#ask({ task: "keep", runtime: this.#runtime() })]);
    // A worker that is older than what keeps the files asks the network for them.
    if (first && this.#idle) this.#start();
    return true;
  }

  get #idle() {
    return this.#waiting.size === 0;
  }

  #ask(task, report, signal) {
    const id = ++this.#count;
    return new Promise((resolve, reject) => {
      if (this.#broken) return reject(this.#broken);
      this.#waiting.set(id, { resolve, reject, report });
      signal?.addEventListener("abort", () => {
        this.#waiting.delete(id);
        this.#worker.postMessage({ id, task: "cancel" });
        reject(signal.reason);
      });
      this.#worker.postMessage({ id, ...task });
    });
  }

  /** Where a file of the page is: beside it, or in it, where it is a single file. */
  #url = (name) => this.config.urls?.[name] ?? new URL(name, import.meta.url).href;

  #runtime() {
    const kinds = Object.entries(this.config.runtime).map(([kind, names]) => [kind, names.map(this.#url)]);
    return Object.fromEntries(kinds);
  }

  #network(variant) {
    const network = this.config.networks[variant];
    return { ...network, files: network.files.map(this.#url), runtime: this.#runtime() };
  }

  async add(file) {
    // Its header is enough for one that is too large to be decoded.
    const { width, height } = await this.#ask({ task: "size", file }).catch(async (error) => {
      const said = await headed(file);
      if (said && said.width * said.height > this.config.pixels) return said;
      throw error;
    });
    const pixels = (width * height) / 1e6;
    const most = this.config.pixels / 1e6;
    if (pixels > most) {
      throw new Error(
        `${file.name} has ${pixels.toPrecision(3)} million pixels: a browser holds ${most} million here; ` +
          "scale it down, or use pdn_jax enhance.",
      );
    }
    if (Math.min(width, height) < SMALLEST) {
      throw new Error(
        `${file.name} is ${width}×${height} pixels: expected at least ${SMALLEST} on each side.`,
      );
    }
    const type = file.type in TYPES ? file.type : "image/png";
    const stem = file.name.replace(/\.[^.]*$/, "") || "photograph";
    const kept = file.type in TYPES && /\.[^.]+$/.test(file.name);
    const result = kept ? file.name : stem + TYPES[type];
    return { id: ++this.#count, name: file.name, result, type, file, bytes: file.size };
  }

  remove() {}

  preview({ file }, variant, report, signal) {
    return this.#ask({ task: "preview", file, network: this.#network(variant) }, report, signal);
  }

  before({ file }) {
    return createImageBitmap(file);
  }

  after({ file }, variant, dials, report, signal) {
    const task = { task: "result", file, network: this.#network(variant), dials, type: null };
    return this.#ask(task, report, signal);
  }

  async result(photo, variant, dials, report, signal) {
    const { file, type } = photo;
    const task = { task: "result", file, network: this.#network(variant), dials, type };
    const { blob, notes } = await this.#ask(task, report, signal);
    // It is not known whether it had any of that.
    const maybe = ["metadata (EXIF, XMP, IPTC)", "a colour profile (it is sRGB now)"];
    if (!["image/jpeg", "image/webp"].includes(photo.file.type)) maybe.push("more than 8 bits");
    if (blob.type === photo.file.type) return { name: photo.result, blob, lost: [], maybe, notes };
    const name = photo.result.replace(/\.[^.]*$/, TYPES[blob.type]);
    return { name, blob, lost: [], maybe, notes: [...notes, `this browser writes ${name.split(".").pop()} instead`] };
  }
}
