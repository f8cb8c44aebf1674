// The page: which photographs there are, what is shown of them, and what its buttons do. What makes
// pictures is an engine: served.js has a process behind it, local.js the networks in this browser.

import { Quick } from "./dial.js";
import { histogram } from "./histogram.js";
import { List } from "./list.js";
import { change, remembered } from "./theme.js";
import { View, paint, pictures } from "./view.js";
import { distinct, parted, save, zipped } from "./zip.js";

const one = (id) => document.getElementById(id);
const PREVIEWS = 3; // how many photographs' previews are held at once, of some 30 MB each
const SETTLED = 400; // milliseconds until a dial that moved at 100 % is made at full size

const view = new View(one("view"));
const photos = [];
const recent = []; // those that have previews, the last first
let config, engine, current;
let shown = new AbortController(); // of what is made for the screen
let timer;
let picks = 0; // how often the person has chosen what is shown

// --- words ---------------------------------------------------------------------------------------

function say(text) {
  one("status").textContent = text;
}

function complain(text) {
  one("fault").textContent = text;
  one("fault").hidden = !text;
}

/** Run something that takes a while, and show it; a sentence instead of its result where it fails. */
async function busy(doing, work) {
  const report = (text = "", part) => {
    one("doing").textContent = text ? `${doing} (${text})` : doing;
    if (part === undefined) one("progress").removeAttribute("value");
    else one("progress").value = part;
  };
  report();
  one("busy").hidden = false;
  say(doing);
  working++;
  try {
    return await work(report);
  } catch (error) {
    if (error.name !== "AbortError") complain(error.message);
    return null;
  } finally {
    working--;
    if (working === 0) one("busy").hidden = true;
  }
}
let working = 0;

// --- photographs come and go ---------------------------------------------------------------------

/** Take files, and show each, for as long as the person has not picked another. */
async function take(files) {
  complain("");
  const faults = [];
  const before = picks;
  let good = current; // the one to go back to
  for (const file of files) {
    if (config.bytes && file.size > config.bytes) {
      faults.push(`${file.name} is too large: at most ${config.bytes / 1e6} MB are taken.`);
      continue;
    }
    await busy(`Taking ${file.name}`, async () => {
      try {
        const photo = { ...(await engine.add(file)), dials: { exposure: 1, denoise: 1 }, previews: {} };
        photos.push(photo);
        list();
        if (picks !== before) return;
        await show(photo);
        if (photo.fault) faults.push(photo.fault);
        else good = photo;
      } catch (error) {
        faults.push(error.message);
      }
    });
  }
  if (picks === before && good && good !== current && photos.includes(good)) await show(good);
  complain(faults.join(" "));
}

const listed = new List(one("photos"), {
  pick(photo) {
    picks++;
    complain("");
    show(photo);
  },
  remove: leave,
});

function list() {
  document.body.classList.toggle("some", photos.length > 0);
  one("photos").hidden = photos.length === 0;
  one("all").hidden = photos.length < 2;
  one("look").hidden = !current?.preview;
  listed.show(photos, current);
}

function leave(photo) {
  const [at, focused] = [photos.indexOf(photo), listed.hasFocus(photo)];
  complain("");
  engine.remove(photo);
  photos.splice(at, 1);
  if (recent.includes(photo)) recent.splice(recent.indexOf(photo), 1);
  const next = photos[Math.min(at, photos.length - 1)];
  if (photo === current) {
    shown.abort();
    current = undefined;
    if (next) show(next);
  }
  list();
  if (focused && next) listed.focus(next);
  else if (focused) one("choose").focus();
  say(`${photo.name} removed`);
}

// --- what is seen --------------------------------------------------------------------------------

function variant() {
  return one("variant").value;
}

async function show(photo) {
  shown.abort();
  shown = new AbortController();
  const { signal } = shown;
  current = photo;
  photo.preview = photo.previews[variant()];
  if (!photo.preview) {
    list();
    const made = await busy(`Brightening ${photo.name}`, async (report) => {
      try {
        return await engine.preview(photo, variant(), report, signal);
      } catch (error) {
        if (error.name !== "AbortError") photo.fault = error.message;
        throw error;
      }
    });
    if (signal.aborted) return;
    if (made) prepare(photo, made);
  }
  list();
  if (!photo.preview) return;
  remember(photo);
  view.photograph = photo.preview.full;
  pictures(one("strip"), photo.preview.strip);
  setDials();
  zoom(view.full);
  histogram(one("histogram-before"), photo.preview.image.before.data);
  histogram(one("histogram-after"), photo.preview.image.after.data);
  say(`${photo.name} is brightened`);
}

/** Of the photographs seen last alone the previews are held; those of others are made anew. */
function remember(photo) {
  if (recent.includes(photo)) recent.splice(recent.indexOf(photo), 1);
  recent.unshift(photo);
  for (const old of recent.splice(PREVIEWS)) Object.assign(old, { previews: {}, preview: undefined });
}

/** A preview as it is painted from: the planes' pictures, and the dials' table. */
function prepare(photo, made) {
  const { width, height, before, brightened, restored, shares } = made;
  const image = { before: new ImageData(width, height), after: new ImageData(width, height) };
  image.before.data.fill(255);
  image.after.data.fill(255);
  const count = width * height;
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < count; i++) image.before.data[4 * i + channel] = before[channel * count + i];
  }
  const quick = new Quick({ brightened, restored, shares });
  delete photo.fault;
  photo.preview = { full: made.full, strip: made.strip, image, quick };
  photo.previews = { [variant()]: photo.preview }; // of the variant that is looked at alone, for the memory
  const { name, ...first } = made.strip[0] ?? { width: 1, height: 1, rgba: new Uint8ClampedArray(4) };
  listed.picture(photo, new ImageData(first.rgba, first.width, first.height));
}

// --- dials ---------------------------------------------------------------------------------------

function setDials() {
  one("exposure").value = Math.log2(current.dials.exposure);
  one("denoise").value = current.dials.denoise;
}

function redial() {
  const stops = Number(one("exposure").value);
  const denoise = Number(one("denoise").value);
  current.dials = { exposure: 2 ** stops, denoise };
  const words = `${stops < 0 ? "−" : "+"}${Math.abs(stops).toFixed(2)} EV`;
  for (const [id, text] of [["exposure", words], ["denoise", `${Math.round(100 * denoise)} %`]]) {
    one(id).setAttribute("aria-valuetext", text);
    one(id).parentElement.querySelector("output").textContent = text;
  }
  const begin = performance.now();
  const { quick, image } = current.preview;
  quick.apply(image.after.data, current.dials);
  paint(view.after, image.after);
  performance.measure("dial", { start: begin });
  clearTimeout(timer);
  timer = setTimeout(settle, SETTLED);
}

/** What may wait until the dial stands: the histogram, and full size where that is looked at. */
async function settle() {
  const photo = current;
  if (!photo?.preview) return;
  histogram(one("histogram-after"), photo.preview.image.after.data);
  if (!view.full) return;
  shown.abort();
  shown = new AbortController();
  const { signal } = shown;
  await busy(`Making ${photo.name} at full size`, async (report) => {
    const before = await engine.before(photo, signal);
    const after = await engine.after(photo, variant(), photo.dials, report, signal);
    if (signal.aborted) return;
    paint(view.before, before);
    paint(view.after, after);
    one("view").dataset.full = photo.name;
    say(`${photo.name} at 100 %`);
  });
}

function zoom(full) {
  one("fit").setAttribute("aria-pressed", !full);
  one("full").setAttribute("aria-pressed", full);
  delete one("view").dataset.full;
  view.zoom(full);
  if (!current?.preview) return;
  paint(view.before, current.preview.image.before);
  redial();
}

// --- downloads -----------------------------------------------------------------------------------

async function download(wanted) {
  complain("");
  const [results, faults] = [[], []];
  const network = variant(); // what is changed meanwhile is for the next time
  const all = wanted.map((photo) => [photo, photo.dials]);
  for (const [index, [photo, dials]] of all.entries()) {
    const count = wanted.length > 1 ? `, ${index + 1} of ${wanted.length}` : "";
    await busy(`Making ${photo.name} at full size${count}`, async (report) => {
      try {
        results.push(await engine.result(photo, network, dials, report));
      } catch (error) {
        faults.push(error.message);
      }
    });
  }
  const names = distinct(results.map(({ name }) => name));
  const files = results.map(({ blob }, index) => ({ blob, name: names[index] }));
  if (files.length === 1) save(files[0].blob, files[0].name);
  else {
    for (const [index, part] of parted(files).entries()) {
      const zip = await busy("Putting them together", () => zipped(part));
      if (zip) save(zip, index ? `brightened-${index + 1}.zip` : "brightened.zip");
    }
  }
  const each = (part) => [...new Set(results.flatMap(part))];
  const maybe = each((result) => result.maybe ?? []);
  const notes = each((result) => [...result.notes, ...result.lost.map((what) => `without ${what}`)]);
  if (maybe.length) notes.push(`it may lack what it had of ${maybe.join(", ")}`);
  say([`${files.length} downloaded`, ...notes].join("; "));
  one("note").textContent = notes.length ? `The last download: ${notes.join("; ")}.` : "";
  if (faults.length) complain(faults.join(" "));
}

// --- the page ------------------------------------------------------------------------------------

function listen() {
  const on = (id, event, act) => one(id).addEventListener(event, act);
  on("choose", "click", () => one("files").click());
  on("files", "change", () => {
    take([...one("files").files]);
    one("files").value = "";
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    addEventListener(name, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dragging", name === "dragover");
      if (name === "drop") take([...event.dataTransfer.files]);
    });
  }
  addEventListener("paste", (event) => take([...event.clipboardData.files]));
  on("variant", "change", () => {
    complain("");
    if (current) show(current);
  });
  for (const id of ["exposure", "denoise"]) on(id, "input", redial);
  on("reset", "click", () => {
    current.dials = { exposure: 1, denoise: 1 };
    setDials();
    redial();
  });
  on("fit", "click", () => zoom(false));
  on("full", "click", () => zoom(true));
  on("one", "click", () => download([current]));
  on("all", "click", () => download(photos.filter((photo) => !photo.fault)));
  on("theme", "click", change);
}

async function begin() {
  remembered();
  config = globalThis.pdn_jax ?? (await (await fetch("config.json")).json()); // see single.js
  const { Engine } = await import(config.urls?.["local.js"] ?? `./${config.engine}.js`);
  engine = new Engine(config);
  for (const name of config.variants) one("variant").add(new Option(name, name, false, name === config.chosen));
  const places = { local: "They stay in this browser: nothing is uploaded.", served: "They go to pdn_jax on its own machine, and nowhere else." };
  one("where").textContent = places[config.engine];
  engine.kept?.then((kept) => {
    if (kept) one("where").textContent += " The page is kept here, and works without a network.";
  });
  listen();
  document.body.dataset.ready = "";
}

begin().catch((error) => complain(`The page could not start (${error.message}): load it again.`));
