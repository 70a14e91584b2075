// Attention, layer by layer: a small map of every block to choose from, and the chosen one over the picture.

import { heat } from "./board.js";

const byId = (id) => document.getElementById(id);

export class Attention {
  #remote;
  #board;
  #layer = -1;
  #maps = [];
  #grid = { rows: 1, columns: 1 };
  #wanted = 0;

  constructor(remote, board, redraw) {
    this.#remote = remote;
    this.#board = board;
    byId("head").onchange = redraw;
    this.redraw = redraw;
  }

  /** A choice of all blocks together and each of `depth` blocks, of the mean and each of the heads. */
  setModel({ depth, heads, rows, columns }) {
    this.#grid = { rows, columns };
    this.#layer = -1;
    const head = ["mean of heads", ...Array.from({ length: heads }, (_, i) => `head ${i + 1}`)];
    byId("head").replaceChildren(...head.map((text, i) => new Option(text, i - 1)));
    const names = ["all", ...Array.from({ length: depth }, (_, i) => String(i + 1))];
    this.#maps = names.map((name, i) => this.#choice(name, i - 1));
    byId("layers").replaceChildren(...this.#maps.map((m) => m.label));
  }

  #choice(name, layer) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "layer", value: layer, checked: layer === this.#layer });
    input.setAttribute("aria-label", layer < 0 ? "all blocks together (rollout)" : `block ${name}`);
    input.onchange = () => {
      this.#layer = layer;
      this.redraw();
    };
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.#grid.columns, this.#grid.rows];
    const text = document.createElement("span");
    text.textContent = name;
    label.append(input, canvas, text);
    return { label, canvas, layer };
  }

  /** Draws the attention from the board's chosen patch. */
  async draw() {
    const [wanted, chosen] = [++this.#wanted, this.#board.selected];
    const head = Number(byId("head").value);
    byId("head").disabled = this.#layer < 0;
    for (const { canvas, layer } of this.#maps) {
      const values = await this.#remote.call("attention", chosen, { layer, head });
      // Another patch was chosen in the meantime.
      if (wanted !== this.#wanted || byId("view").value !== "attention") return;
      const most = Math.max(...values);
      const share = (i) => (most > 0 ? values[i] / most : 0);
      const image = new ImageData(canvas.width, canvas.height);
      values.forEach((_, i) => image.data.set([...heat(share(i)), 255], 4 * i));
      canvas.getContext("2d").putImageData(image, 0, 0);
      if (layer !== this.#layer) continue;
      this.#board.overlay((context, x, y, w, h, i) => {
        context.fillStyle = `rgba(${heat(share(i))}, 0.72)`;
        context.fillRect(x, y, w, h);
      });
    }
  }
}
