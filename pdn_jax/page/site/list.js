// The list of photographs: an item stays for as long as its photograph does, and with it the focus.

import { paint } from "./view.js";

export class List {
  #items = new Map();

  /** root: an ul. pick and remove: what is done with a photograph whose buttons are pressed. */
  constructor(root, { pick, remove }) {
    Object.assign(this, { root, pick, remove });
  }

  #made(photo) {
    const item = document.createElement("li");
    const [pick, remove] = [0, 0].map(() => document.createElement("button"));
    pick.type = remove.type = "button";
    const name = document.createElement("span");
    name.textContent = photo.name;
    const thumbnail = document.createElement("canvas");
    pick.append(thumbnail, name);
    pick.onclick = () => this.pick(photo);
    remove.className = "remove";
    remove.textContent = "×";
    remove.setAttribute("aria-label", `Remove ${photo.name}`);
    remove.onclick = () => this.remove(photo);
    item.append(pick, remove);
    return { item, pick, remove, thumbnail };
  }

  show(photos, current) {
    for (const [photo, { item }] of this.#items) {
      if (photos.includes(photo)) continue;
      item.remove();
      this.#items.delete(photo);
    }
    for (const photo of photos) {
      if (!this.#items.has(photo)) {
        this.#items.set(photo, this.#made(photo));
        this.root.append(this.#items.get(photo).item);
      }
      const { pick } = this.#items.get(photo);
      pick.className = photo.fault ? "pick bad" : "pick";
      pick.title = photo.fault ?? photo.name;
      pick.setAttribute("aria-current", photo === current);
    }
  }

  picture(photo, image) {
    const found = this.#items.get(photo);
    if (found) paint(found.thumbnail, image);
  }

  hasFocus(photo) {
    return this.#items.get(photo)?.item.contains(document.activeElement) ?? false;
  }

  focus(photo) {
    this.#items.get(photo)?.remove.focus();
  }
}
