// Files in and out: limits before reading, tar archives, downloads.

const PICTURE_BYTES = 32 << 20;
const MODEL_BYTES = 256 << 20;
const MODEL_FILES = /\.(safetensors|json|tar)$/i;

function refused(message) {
  return Object.assign(new Error(message), { code: "data" });
}

export function isModelFile(file) {
  return MODEL_FILES.test(file.name);
}

/** Bytes of a picture file. The size is looked at before anything is read. */
export async function readPicture(file) {
  if (file.size > PICTURE_BYTES) throw refused(`${file.name || "The file"} is larger than 32 MiB.`);
  return file.arrayBuffer();
}

/** Files of a model by their bare names; archives are opened. */
export async function readModel(files) {
  const total = files.reduce((sum, file) => sum + file.size, 0);
  if (total > MODEL_BYTES) throw refused("These files are larger than 256 MiB together.");
  const found = {};
  for (const file of files) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    if (/\.tar$/i.test(file.name)) Object.assign(found, untar(bytes));
    else found[file.name] = bytes;
  }
  return found;
}

const BLOCK = 512;
const text = (bytes) => new TextDecoder().decode(bytes).replace(/\0.*$/s, "");

/** Plain files of a tar archive by their bare names. */
export function untar(bytes) {
  const found = {};
  for (let at = 0; at + BLOCK <= bytes.length; ) {
    const header = bytes.subarray(at, at + BLOCK);
    if (header[0] === 0) break;
    const size = parseInt(text(header.subarray(124, 136)).trim() || "0", 8);
    if (!Number.isInteger(size) || size < 0 || at + BLOCK + size > bytes.length) throw refused("This archive is damaged.");
    const kind = header[156];
    const name = text(header.subarray(0, 100)).split("/").pop();
    if ((kind === 0 || kind === 48) && name) found[name] = bytes.slice(at + BLOCK, at + BLOCK + size);
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
  return found;
}

/** A tar archive of files in one folder. */
export function tar(folder, files) {
  const parts = [];
  for (const [name, bytes] of Object.entries(files)) {
    const header = new Uint8Array(BLOCK);
    const put = (value, at) => header.set(new TextEncoder().encode(value), at);
    put(`${folder}/${name}`, 0);
    put("0000644\0", 100);
    put("0000000\0", 108);
    put("0000000\0", 116);
    put(`${bytes.length.toString(8).padStart(11, "0")}\0`, 124);
    put("00000000000\0", 136);
    put("        0", 148);
    put("ustar\x0000", 257);
    const sum = header.reduce((a, b) => a + b, 0);
    put(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    parts.push(header, bytes, new Uint8Array((BLOCK - (bytes.length % BLOCK)) % BLOCK));
  }
  parts.push(new Uint8Array(2 * BLOCK));
  return new Blob(parts, { type: "application/x-tar" });
}

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
