// The page: wires the boards, the inspector and the training to the engine's worker.

import { Attention } from "./attention.js";
import { Board, hatch, heat } from "./board.js";
import { takePicture } from "./camera.js";
import { download, isModelFile, readModel, readPicture, tar } from "./files.js";
import { Inspector } from "./inspector.js";
import { Remote } from "./remote.js";
import { centred, contactSheet } from "./sheet.js";
import { Trainer } from "./train.js";
import { explain } from "./trouble.js";

const byId = (id) => document.getElementById(id);
const root = document.documentElement;
const say = (text) => (byId("status").textContent = text);

/** The first of the built-in scenes that no training sees. */
const HELD_OUT = 1_000_000;
const MODEL_FILES = ["model.safetensors", "config.json", "tokenizer.safetensors", "tokenizer.json"];

let remote;
let attention;
let inspector;
let trainer;
let info;
let picture;
let mask = [];
let found;
let scene = HELD_OUT;
let seed = 1;
let maskKind = "blockwise";
const boards = {
  in: new Board(byId("board-in"), { label: "Mask: patches of the picture", paints: true, help: "board-help" }),
  out: new Board(byId("board-out"), { label: "What the model makes of each patch", paints: false }),
};

// ---- trouble

function trouble(error) {
  const known = explain(error);
  if (!known) {
    say(error.message);
    return;
  }
  root.dataset.trouble = error.code;
  const box = byId("trouble");
  box.querySelector("h2").textContent = known.title;
  box.querySelector("p").textContent = known.text;
  byId("restart").hidden = !known.restart;
  box.hidden = false;
  say(`${known.title}.`);
  if (!found) root.dataset.state = "failed";
  root.classList.remove("loading");
}

const guarded = (work) => async (...args) => {
  try {
    await work(...args);
  } catch (error) {
    trouble(error);
  }
};

/** Another task's turn. */
const turn = () => new Promise((resolve) => setTimeout(resolve));

// ---- looking

let busy = false;
let again = false;

/** Reconstructs with the current mask and settings; a call in between is done afterwards, once. */
async function look() {
  if (busy) {
    again = true;
    return undefined;
  }
  busy = true;
  try {
    do {
      again = false;
      await lookOnce();
    } while (again);
  } finally {
    busy = false;
  }
  return found;
}

async function lookOnce() {
  const view = byId("view").value;
  // With nothing hidden there is nothing to predict; the model still has an opinion on every visible patch.
  const hidden = mask.some((m) => m === 1);
  const rounds = view === "iterated" ? Number(byId("rounds").value) : 1;
  const temperature = view === "sampled" ? Number(byId("temperature").value) : 0;
  if (!hidden) {
    found = undefined;
    showPlain();
    draw();
    byId("view-note").textContent = "Nothing is hidden.";
    byId("figures").replaceChildren();
    return;
  }
  found = await remote.call("reconstruct", picture, mask, { top: 5, rounds, temperature, seed });
  root.dataset.looks = Number(root.dataset.looks ?? 0) + 1;
  byId("round").max = rounds;
  byId("round").value = rounds;
  inspector.figures(found);
  draw();
  root.dataset.first ??= Math.round(performance.now());
  await choose(boards.in.selected);
}

/** The picture alone, before or without a prediction. */
function showPlain() {
  const image = info ? centred(picture, info.image) : picture;
  boards.in.show(image);
  boards.out.show(image);
}

function draw() {
  byId("mask-count").textContent = `${mask.filter((m) => m).length} of ${mask.length} patches hidden`;
  boards.in.overlay((context, x, y, w, h, i) => {
    if (mask[i]) hatch(context, x, y, w, h);
  });
  const name = (i) => `Row ${Math.floor(i / info.columns) + 1}, column ${(i % info.columns) + 1}`;
  boards.in.describe((i) => `${name(i)}, ${mask[i] ? "hidden" : "visible"}`);
  if (!found) {
    boards.out.overlay(() => {});
    boards.out.describe(name);
    return;
  }
  boards.in.show(found.pictures.original);
  boards.out.describe((i) => `${name(i)}, ${found.mask[i] ? "hidden" : "visible"}, token ${found.topIds[i * found.top]} at ${Math.round(100 * found.confidence[i])} %`);
  drawView();
}

function drawView() {
  if (!found) return;
  const view = byId("view").value;
  const p = found.pictures;
  const note = {
    reconstructed: "The most probable token of each hidden patch, decoded.",
    iterated: "The most certain patches are filled in first; then the model looks again.",
    sampled: "Tokens drawn from the predicted distribution.",
    tokensOnly: "The whole picture from tokens: the tokenizer’s where visible, the model’s where hidden.",
    ceiling: "The picture through the tokenizer and back. No prediction can beat it.",
    confidence: "Probability of the most probable token, in per cent.",
    attention: "Where the chosen patch looks. Bright is more.",
  };
  byId("view-note").textContent = note[view];
  boards.out.show(p[view] ?? (view === "confidence" ? p.corrupted : view === "attention" ? p.original : p.reconstructed));
  if (view === "confidence") boards.out.overlay(drawConfidence);
  else if (view === "iterated") {
    const round = Number(byId("round").value);
    boards.out.overlay((context, x, y, w, h, i) => found.mask[i] && found.round[i] > round && hatch(context, x, y, w, h));
  } else if (view !== "attention") boards.out.overlay(() => {});
}

function drawConfidence(context, x, y, w, h, i) {
  if (!found.mask[i]) return;
  const colour = heat(found.confidence[i]);
  context.fillStyle = `rgb(${colour})`;
  context.fillRect(x, y, w, h);
  if (w < 36) return;
  context.fillStyle = colour[0] + 2 * colour[1] > 300 ? "#10131f" : "#ffffff";
  context.font = "600 20px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(String(Math.round(100 * found.confidence[i])), x + w / 2, y + h / 2);
}

async function choose(index) {
  boards.in.select(index);
  boards.out.select(index);
  if (!found) return;
  if (byId("view").value === "attention") await attention.draw();
  await inspector.patch(found, index);
}

function showView(view) {
  byId("view").value = view;
  for (const name of ["iterated", "sampled", "attention"]) byId(`controls-${name}`).hidden = name !== view;
  byId("scale").hidden = view !== "confidence" && view !== "attention";
  byId("scale-most").textContent = view === "confidence" ? "100 %" : "most";
  drawView();
}

async function play() {
  const [slider, rounds] = [byId("round"), Number(byId("round").max)];
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  for (let r = still ? rounds : 0; r <= rounds; r++) {
    slider.value = r;
    drawView();
    await new Promise((resolve) => setTimeout(resolve, 350));
  }
}

// ---- picture and mask

async function usePicture(next, said) {
  picture = next;
  await look();
  say(said);
}

async function newMask(kind) {
  if (kind === "inverse") mask = mask.map((m) => 1 - m);
  else if (kind === "clear") mask = mask.map(() => 0);
  else {
    maskKind = kind;
    mask = Array.from(await remote.call("mask", kind, Number(byId("share").value) / 100, ++seed));
  }
  draw();
  await look();
}

/** What was dropped, pasted or chosen: a model, one picture, or several to train on. */
async function take(files) {
  if (!files.length || !info) return;
  if (files.every(isModelFile)) return importModel(files);
  if (files.length > 1) return trainer.addPictures(files);
  const image = await remote.call("decode", await readPicture(files[0]), 512);
  await usePicture(image, `${files[0].name || "The picture"} is shown.`);
}

async function save() {
  if (!found) return say("Hide some patches first.");
  const view = byId("view");
  const shown = [["Original", "original"], ["Hidden", "corrupted"], ["Reconstruction", "reconstructed"], ["The tokenizer’s best", "ceiling"]];
  // A view that is not among the four is added as it is looked at.
  if (found.pictures[view.value] && !shown.some(([, key]) => key === view.value)) {
    shown.splice(3, 0, [view.selectedOptions[0].text, view.value]);
  }
  download(await contactSheet(shown.map(([caption, key]) => [caption, found.pictures[key]])), "beit-reconstruction.png");
  return say(`Saved: ${shown.map(([caption]) => caption.toLowerCase()).join(", ")}.`);
}

// ---- models

async function useModel(files, said) {
  info = await remote.call("load", files);
  inspector.forget();
  for (const board of Object.values(boards)) board.setGrid(info.rows, info.columns);
  attention.setModel(info);
  mask = Array.from(await remote.call("mask", "blockwise", Number(byId("share").value) / 100, seed));
  byId("about").textContent =
    `Model: ${info.depth} blocks of width ${info.width}, ${info.parameters.toLocaleString("en")} parameters, pictures of ${info.image} × ${info.image} pixels in ${info.rows} × ${info.columns} patches; tokenizer of ${info.vocab} tokens, ${info.tokenizerParameters.toLocaleString("en")} parameters.`;
  if (said) say(said);
}

async function builtIn() {
  const read = async (name) => {
    const answer = await fetch(new URL(`model/${name}`, import.meta.url));
    if (!answer.ok) throw new Error(`The model's ${name} could not be loaded (${answer.status}).`);
    return new Uint8Array(await answer.arrayBuffer());
  };
  const bytes = await Promise.all(MODEL_FILES.map(read));
  return Object.fromEntries(MODEL_FILES.map((name, i) => [name, bytes[i]]));
}

async function importModel(files) {
  if (trainer.active) return say("Keep or reset the training first.");
  const given = await readModel(files);
  const parts = Object.keys(given).filter((name) => MODEL_FILES.includes(name));
  if (!parts.length) throw new Error(`No model there: expected ${MODEL_FILES.join(", ")}, or a .tar of them.`);
  // A single network replaces its half of what is loaded.
  const before = parts.length === MODEL_FILES.length ? {} : await remote.call("export");
  await useModel({ ...before, ...given });
  await look();
  say(`Imported ${parts.join(", ")}.`);
}

async function exportModel() {
  const files = await remote.call("export");
  const bytes = Object.values(files).reduce((sum, f) => sum + f.length, 0);
  download(tar("beit-tab", files), "beit-tab.tar");
  say(`Exported ${Object.keys(files).length} files, ${(bytes / 2 ** 20).toFixed(1)} MiB.`);
}

// ---- start

function wire() {
  boards.in.addEventListener("paint", ({ detail }) => {
    detail.value ??= mask[detail.index] ? 0 : 1;
    mask[detail.index] = detail.value;
    draw();
  });
  boards.in.addEventListener("painted", guarded(look));
  for (const board of Object.values(boards)) board.addEventListener("choose", guarded(({ detail }) => choose(detail)));
  for (const button of document.querySelectorAll("[data-mask]")) {
    button.onclick = guarded(() => newMask(button.dataset.mask));
  }
  byId("share").oninput = () => (byId("share-out").textContent = `${byId("share").value} %`);
  byId("share").onchange = guarded(() => newMask(maskKind));
  byId("view").onchange = guarded(async () => {
    const view = byId("view").value;
    showView(view);
    if ((view === "iterated" || view === "sampled") && !found?.pictures[view]) await look();
    if (view === "attention" && found) await attention.draw();
  });
  byId("rounds").onchange = guarded(look);
  byId("round").oninput = drawView;
  byId("play").onclick = guarded(play);
  byId("temperature").onchange = guarded(look);
  byId("again").onclick = guarded(() => {
    seed++;
    return look();
  });
  byId("next").onclick = guarded(async () => usePicture(await remote.call("scene", ++scene, 128), "Another scene, one that no training has seen."));
  byId("choose").onchange = guarded(async (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    await take(files);
  });
  byId("camera").onclick = guarded(async () => {
    const image = await takePicture();
    if (image) await usePicture(image, "A picture from the camera.");
  });
  byId("save").onclick = guarded(save);
  byId("export").onclick = guarded(exportModel);
  byId("import").onchange = guarded(async (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    await importModel(files);
  });
  byId("built-in").onclick = guarded(async () => {
    if (trainer.active) return say("Keep or reset the training first.");
    await useModel(await builtIn());
    await look();
    say("The built-in model is loaded.");
  });
  byId("restart").onclick = () => location.reload();
  const accepts = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!accepts(event)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
  addEventListener("drop", guarded((event) => {
    document.body.classList.remove("dropping");
    if (!accepts(event)) return undefined;
    event.preventDefault();
    return take([...event.dataTransfer.files]);
  }));
  addEventListener("paste", guarded((event) => take([...(event.clipboardData?.files ?? [])])));
}

async function start() {
  root.classList.add("loading");
  if (!navigator.gpu) {
    trouble({ code: "no-webgpu", message: "navigator.gpu is missing" });
    return;
  }
  remote = new Remote();
  const files = builtIn();
  remote.addEventListener("lost", () => say("The graphics device was lost. Opening it again."));
  remote.addEventListener("recovered", ({ detail }) => {
    root.dataset.recovered = Number(root.dataset.recovered ?? 0) + 1;
    root.dataset.from = detail.step;
    say(detail.step >= 0 ? `The graphics device was lost and is back. Training goes on from update ${detail.step}.` : "The graphics device was lost and is back.");
  });
  // The parts of the page are made in tasks of their own, so that none takes long.
  await turn();
  attention = new Attention(remote, boards.out, guarded(() => found && attention.draw()));
  inspector = new Inspector(remote);
  await turn();
  trainer = new Trainer(remote, { say, trouble, look, showView, changed: () => inspector.forget() });
  await turn();
  wire();
  const device = await remote.call("open");
  picture = await remote.call("scene", scene, 128);
  showPlain();
  if (device.software) {
    say("Compiling the kernels for a software adapter, which takes some seconds.");
    byId("batch").value = 8;
  }
  await useModel(await files);
  draw();
  await look();
  root.classList.remove("loading");
  root.dataset.state = "ready";
  const name = [device.name, device.software && "software"].filter(Boolean).join(", ");
  say(`Ready${name ? ` on ${name}` : ""}: first reconstruction after ${(Number(root.dataset.first) / 1000).toFixed(1)} s.`);
  // Kept for later without a network; the page works without it.
  navigator.serviceWorker?.register(new URL("offline.js", import.meta.url)).catch(() => {});
}

guarded(start)();
