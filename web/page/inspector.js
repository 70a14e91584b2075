// What the model says about one patch, and the figures of the whole picture.

const percent = (v) => `${(100 * v).toFixed(v < 0.0995 ? 1 : 0)} %`;

export class Inspector {
  #remote;
  #tokens = new Map();
  #wanted = 0;

  constructor(remote) {
    this.#remote = remote;
  }

  /** Tokens look different after the tokenizer changed. */
  forget() {
    this.#tokens.clear();
  }

  /** Shows patch `i` of a reconstruction. */
  async patch(found, i) {
    const wanted = ++this.#wanted;
    const hidden = found.mask[i] === 1;
    const [row, column] = [Math.floor(i / found.columns) + 1, (i % found.columns) + 1];
    const ids = Array.from({ length: found.top }, (_, k) => found.topIds[i * found.top + k]);
    const pictures = await this.#pictures([found.trueIds[i], ...ids]);
    if (wanted !== this.#wanted) return;
    byId("patch-note").textContent =
      `Row ${row}, column ${column}, ${hidden ? "hidden from the model" : "visible to the model"}. Entropy ${found.entropy[i].toFixed(2)} of ${Math.log(found.vocab).toFixed(2)} nat.`;
    draw(byId("true-token"), pictures[0]);
    byId("true-note").textContent =
      `The tokenizer says ${found.trueIds[i]}. The model ranks it ${found.rank[i]} of ${found.vocab}, at ${percent(found.trueProbability[i])}.`;
    byId("guesses").replaceChildren(...ids.map((id, k) => this.#guess(id, found.topProbabilities[i * found.top + k], pictures[k + 1], id === found.trueIds[i])));
  }

  figures({ figures: f, vocab }) {
    const lines = [
      ["Hidden patches", f.masked],
      ["Predicted exactly", `${percent(f.accuracy)}`],
      ["Among the first five", `${percent(f.accuracy_top5)}`],
      ["Loss, nat", `${f.loss.toFixed(2)} of ${Math.log(vocab).toFixed(2)}`],
      ["Pixel error", f.mae.toFixed(3)],
      ["The tokenizer’s", f.ceiling_mae.toFixed(3)],
    ];
    if (f.iterated_accuracy !== undefined) lines.push(["Exact, step by step", percent(f.iterated_accuracy)]);
    byId("figures").replaceChildren(...lines.flatMap(([name, value]) => [node("dt", name), node("dd", value)]));
  }

  #guess(id, probability, picture, hit) {
    const item = document.createElement("li");
    item.classList.toggle("hit", hit);
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", "true");
    draw(canvas, picture);
    const bar = node("span", "");
    bar.className = "bar";
    const fill = document.createElement("i");
    fill.style.width = `${Math.max(1, 100 * probability)}%`;
    bar.append(fill);
    item.append(canvas, node("span", `Token ${id}`), node("span", percent(probability)), bar);
    return item;
  }

  async #pictures(ids) {
    const missing = [...new Set(ids)].filter((id) => !this.#tokens.has(id));
    if (missing.length) {
      const made = await this.#remote.call("tokenPictures", missing);
      missing.forEach((id, i) => this.#tokens.set(id, made[i]));
    }
    return ids.map((id) => this.#tokens.get(id));
  }
}

function byId(id) {
  return document.getElementById(id);
}

function node(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function draw(canvas, image) {
  if (!image) return;
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").putImageData(image, 0, 0);
}
