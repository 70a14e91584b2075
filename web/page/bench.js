// Times the workloads of docs/performance.md, one click each.

import { Beit } from "./beit/beit.js";

const WORKLOADS = {
  matmul: "Product of two 512 × 512 matrices",
  "f-micro": "Prediction, 32-pixel network",
  f: "Prediction, ViT-Tiny at 224 pixels",
  "t-micro": "Training step, 32-pixel network, 64 pictures",
  "t-tiny": "Training step, ViT-Tiny, 8 pictures",
  d: "Tokenizer of DALL·E, one picture",
};
const RUNS = 5;

const say = (text) => (document.getElementById("status").textContent = text);
let beit;

async function time(name, cells, button) {
  button.disabled = true;
  say(`Timing ${name}.`);
  try {
    beit ??= await Beit.create();
    const b = await beit.bench(name, RUNS);
    const median = [...b.seconds].sort((x, y) => x - y)[Math.floor(RUNS / 2)];
    const seconds = (s) => (s < 1 ? `${(1000 * s).toFixed(0)} ms` : `${s.toFixed(2)} s`);
    const figures = [seconds(b.first), seconds(median), (b.flops / median / 1e9).toFixed(1), b.images ? (b.images / median).toFixed(1) : "–"];
    cells.forEach((cell, i) => (cell.textContent = figures[i]));
    say(`${name}: ${seconds(median)}.`);
  } catch (error) {
    say(`${error.code ?? "error"}: ${error.message}`);
  }
  button.disabled = false;
}

for (const [name, text] of Object.entries(WORKLOADS)) {
  const row = document.getElementById("rows").insertRow();
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = text;
  row.append(head);
  const cells = Array.from({ length: 4 }, () => row.insertCell());
  const button = document.createElement("button");
  button.type = "button";
  button.className = "small";
  button.textContent = "Time";
  button.setAttribute("aria-label", `Time: ${text}`);
  button.onclick = () => time(name, cells, button);
  row.insertCell().append(button);
}
