// Several files in one, as they are: photographs are compressed already. ZIP, APPNOTE 4.3, without ZIP64.

const TABLE = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function checksum(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

/** Fields of a record: [bytes, value] each, little-endian. */
function record(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [bytes, value] of fields) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  return view.buffer;
}

const UTF8_NAMES = 0x800;
const FIRST_OF_1980 = 0x21;

/** Files in parts of at most so many bytes, without those that ZIP adds; one that is larger is its own. */
export function parted(files, most = 4e9) {
  const parts = [];
  let bytes = Infinity;
  for (const file of files) {
    bytes += file.blob.size;
    if (bytes > most) {
      parts.push([]);
      bytes = file.blob.size;
    }
    parts.at(-1).push(file);
  }
  return parts;
}

/** files: [{name, blob}] -> a Blob. */
export async function zipped(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, blob } of files) {
    const called = new TextEncoder().encode(name);
    const sum = checksum(new Uint8Array(await blob.arrayBuffer()));
    const facts = [
      ...[[2, 20], [2, UTF8_NAMES], [2, 0], [2, 0], [2, FIRST_OF_1980]],
      ...[[4, sum], [4, blob.size], [4, blob.size], [2, called.length], [2, 0]],
    ];
    const head = record([4, 0x04034b50], ...facts);
    parts.push(head, called, blob);
    const place = [[2, 0], [2, 0], [2, 0], [4, 0], [4, offset]];
    directory.push(record([4, 0x02014b50], [2, 20], ...facts, ...place), called);
    offset += head.byteLength + called.length + blob.size;
  }
  const size = directory.reduce((sum, part) => sum + part.byteLength, 0);
  if (offset + size > 0xffffffff) {
    throw new Error("Together they are more than 4 GB: download them one by one.");
  }
  const count = files.length;
  const end = record([4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, size], [4, offset], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Names of which no two are alike. */
export function distinct(names) {
  const taken = new Set();
  return names.map((name) => {
    const [, stem, ending] = name.match(/^(.*?)(\.[^.]*)?$/);
    let free = name;
    for (let n = 2; taken.has(free.toLowerCase()); n++) free = `${stem}-${n}${ending ?? ""}`;
    taken.add(free.toLowerCase());
    return free;
  });
}

/** Hand a file to the person. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
