// Before and after, one over the other: a divider between them, and both fitted or at 100 % in step.

const KEYS = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1 };

export class View {
  #at = 0.5;

  /** root: has .frame > .sheet > canvases .after and .before, and .divider. */
  constructor(root) {
    const one = (name) => root.querySelector(`.${name}`);
    this.root = root;
    [this.frame, this.sheet, this.divider] = ["frame", "sheet", "divider"].map(one);
    [this.before, this.after] = ["before", "after"].map(one);
    this.size = [1, 1];
    this.full = false;
    new ResizeObserver(() => this.fit()).observe(this.frame);
    this.frame.addEventListener("scroll", () => this.draw());
    this.divider.addEventListener("keydown", (event) => this.#key(event));
    this.#draggable();
  }

  /** The photograph's own size in pixels. */
  set photograph(size) {
    this.size = size;
    this.root.style.setProperty("--ratio", `${size[0]} / ${size[1]}`);
    this.fit();
  }

  /** Fitted into the frame, or one pixel of the photograph for one of the screen. */
  zoom(full) {
    this.full = full;
    this.root.classList.toggle("full", full);
    this.fit();
    if (full) {
      this.frame.scrollLeft = (this.sheet.clientWidth - this.frame.clientWidth) / 2;
      this.frame.scrollTop = (this.sheet.clientHeight - this.frame.clientHeight) / 2;
    }
    this.draw();
  }

  fit() {
    const [width, height] = this.size;
    const box = this.frame.parentElement.getBoundingClientRect();
    const contained = Math.min(box.width / width, box.height / height);
    const scale = this.full ? 1 / devicePixelRatio : contained;
    this.sheet.style.width = `${Math.max(1, width * scale)}px`;
    this.sheet.style.height = `${Math.max(1, height * scale)}px`;
    this.draw();
  }

  get at() {
    return this.#at;
  }

  set at(value) {
    this.#at = Math.min(1, Math.max(0, value));
    this.draw();
  }

  /** What of the sheet is seen, and where the frame is. */
  #seen() {
    const sheet = this.sheet.getBoundingClientRect();
    const frame = this.frame.getBoundingClientRect();
    const left = Math.max(sheet.left, frame.left);
    const right = Math.min(sheet.right, frame.left + this.frame.clientWidth);
    return { sheet, frame, left, width: Math.max(1, right - left) };
  }

  draw() {
    const { sheet, frame, left, width } = this.#seen();
    const x = left + this.#at * width;
    this.before.style.clipPath = `inset(0 ${Math.max(0, sheet.right - x)}px 0 0)`;
    this.divider.style.left = `${x - frame.left}px`;
    const percent = Math.round(100 * this.#at);
    this.divider.setAttribute("aria-valuenow", percent);
    this.divider.setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % after`);
  }

  #key(event) {
    const ends = { Home: 0, End: 1 };
    if (event.key in ends) this.at = ends[event.key];
    else if (event.key in KEYS) this.at += KEYS[event.key];
    else return;
    event.preventDefault();
  }

  #draggable() {
    let drag = null;
    const to = (event) => {
      const { left, width } = this.#seen();
      this.at = (event.clientX - left) / width;
    };
    this.root.addEventListener("pointerdown", (event) => {
      const onDivider = this.divider.contains(event.target);
      if (event.button !== 0 || (!onDivider && !this.frame.contains(event.target))) return;
      const pans = this.full && !onDivider;
      if (pans && event.pointerType !== "mouse") return; // the browser scrolls
      drag = { pans, x: event.clientX, y: event.clientY };
      this.root.setPointerCapture(event.pointerId);
      if (!pans) {
        to(event);
        this.divider.focus({ preventScroll: true });
        event.preventDefault();
      }
    });
    this.root.addEventListener("pointermove", (event) => {
      if (!drag) return;
      if (!drag.pans) return to(event);
      this.frame.scrollBy(drag.x - event.clientX, drag.y - event.clientY);
      Object.assign(drag, { x: event.clientX, y: event.clientY });
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.root.addEventListener(end, () => {
        drag = null;
      });
    }
  }
}

/** Pixels into a canvas, which takes their size. */
export function paint(canvas, image) {
  if (canvas.width !== image.width) canvas.width = image.width;
  if (canvas.height !== image.height) canvas.height = image.height;
  const context = canvas.getContext("2d");
  if (image instanceof ImageData) context.putImageData(image, 0, 0);
  else context.drawImage(image, 0, 0);
}

/** A list of pictures with their names: {name, width, height, rgba} each. */
export function pictures(root, all) {
  const items = all.map(({ name, width, height, rgba }) => {
    const item = document.createElement("li");
    const canvas = document.createElement("canvas");
    canvas.role = "img";
    canvas.ariaLabel = name;
    paint(canvas, new ImageData(rgba, width, height));
    item.append(canvas, name);
    return item;
  });
  root.replaceChildren(...items);
}
