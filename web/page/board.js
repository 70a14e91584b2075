// A square picture under a grid of patches that can be chosen and painted, by pointer, touch and keyboard.

const OVERLAY = 512;

export class Board extends EventTarget {
  #root;
  #picture = document.createElement("canvas");
  #overlay = document.createElement("canvas");
  #cells = [];
  #grid = document.createElement("div");
  #paints;
  #stroke;
  rows = 0;
  columns = 0;
  selected = 0;

  constructor(root, { label, paints, help }) {
    super();
    this.#root = root;
    this.#paints = paints;
    this.#overlay.width = this.#overlay.height = OVERLAY;
    for (const canvas of [this.#picture, this.#overlay]) canvas.setAttribute("aria-hidden", "true");
    this.#grid.className = "cells";
    this.#grid.setAttribute("role", "grid");
    this.#grid.setAttribute("aria-label", label);
    if (help) this.#grid.setAttribute("aria-describedby", help);
    root.append(this.#picture, this.#overlay, this.#grid);
    this.#grid.addEventListener("keydown", (event) => this.#key(event));
    this.#grid.addEventListener("focusin", (event) => this.#choose(this.#cells.indexOf(event.target)));
    this.#grid.addEventListener("pointerdown", (event) => this.#down(event));
    this.#grid.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) {
      this.#grid.addEventListener(end, () => {
        if (this.#stroke) this.dispatchEvent(new CustomEvent("painted"));
        this.#stroke = undefined;
      });
    }
  }

  setGrid(rows, columns) {
    if (rows === this.rows && columns === this.columns) return;
    [this.rows, this.columns] = [rows, columns];
    this.#grid.style.gridTemplate = `repeat(${rows}, 1fr) / repeat(${columns}, 1fr)`;
    this.#cells = [];
    const lines = Array.from({ length: rows }, () => {
      const line = document.createElement("div");
      line.setAttribute("role", "row");
      for (let c = 0; c < columns; c++) {
        const cell = document.createElement("div");
        cell.setAttribute("role", "gridcell");
        cell.tabIndex = -1;
        this.#cells.push(cell);
        line.append(cell);
      }
      return line;
    });
    this.#grid.replaceChildren(...lines);
    this.select(Math.floor(rows / 2) * columns + Math.floor(columns / 2));
  }

  /** Marks a patch without telling anybody. */
  select(index) {
    const old = this.#cells[this.selected];
    if (old) {
      old.tabIndex = -1;
      old.setAttribute("aria-selected", "false");
    }
    this.selected = index;
    const cell = this.#cells[index];
    if (cell) {
      cell.tabIndex = 0;
      cell.setAttribute("aria-selected", "true");
    }
  }

  /** What a screen reader says of each patch. */
  describe(text) {
    this.#cells.forEach((cell, i) => cell.setAttribute("aria-label", text(i)));
  }

  show(image) {
    if (this.#picture.width !== image.width) this.#picture.width = image.width;
    if (this.#picture.height !== image.height) this.#picture.height = image.height;
    this.#picture.getContext("2d").putImageData(image, 0, 0);
  }

  /** Calls `draw(context, x, y, width, height, index)` for every patch on a clear overlay. */
  overlay(draw) {
    const context = this.#overlay.getContext("2d");
    context.clearRect(0, 0, OVERLAY, OVERLAY);
    const edge = (i, n) => Math.round((i * OVERLAY) / n);
    for (let i = 0; i < this.#cells.length; i++) {
      const [row, column] = [Math.floor(i / this.columns), i % this.columns];
      const [x, y] = [edge(column, this.columns), edge(row, this.rows)];
      draw(context, x, y, edge(column + 1, this.columns) - x, edge(row + 1, this.rows) - y, i);
    }
  }

  #at(event) {
    const box = this.#grid.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * this.columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * this.rows);
    const inside = row >= 0 && row < this.rows && column >= 0 && column < this.columns;
    return inside ? row * this.columns + column : -1;
  }

  #down(event) {
    const index = this.#at(event);
    if (index < 0 || event.button !== 0) return;
    event.preventDefault();
    this.#cells[index].focus({ preventScroll: true });
    this.#choose(index);
    if (this.#paints) {
      this.#grid.setPointerCapture(event.pointerId);
      this.#stroke = { last: index, value: this.#paint(index) };
    }
  }

  #move(event) {
    if (!this.#stroke) return;
    // A quick stroke jumps over patches; the events in between are kept by the browser.
    for (const part of event.getCoalescedEvents?.() ?? [event]) {
      const index = this.#at(part);
      if (index >= 0 && index !== this.#stroke.last) {
        this.#stroke.last = index;
        this.#paint(index, this.#stroke.value);
      }
    }
  }

  #key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns }[event.key];
    const column = this.selected % this.columns;
    if (step !== undefined) {
      event.preventDefault();
      const wraps = (step === -1 && column === 0) || (step === 1 && column === this.columns - 1);
      const next = this.selected + step;
      if (!wraps && this.#cells[next]) this.#cells[next].focus();
    } else if (event.key === "Home" || event.key === "End") {
      event.preventDefault();
      this.#cells[this.selected - column + (event.key === "Home" ? 0 : this.columns - 1)].focus();
    } else if ((event.key === " " || event.key === "Enter") && this.#paints) {
      event.preventDefault();
      this.#paint(this.selected);
      this.dispatchEvent(new CustomEvent("painted"));
    }
  }

  #choose(index) {
    if (index < 0) return;
    this.select(index);
    this.dispatchEvent(new CustomEvent("choose", { detail: index }));
  }

  /** Asks for a patch to be hidden or shown; without a value the other way round. Gives what it became. */
  #paint(index, value) {
    const detail = { index, value };
    this.dispatchEvent(new CustomEvent("paint", { detail }));
    return detail.value;
  }
}

/** A chequered ground that no picture shows. */
export function hatch(context, x, y, w, h) {
  const n = 4;
  for (let r = 0; r < n; r++) {
    for (let c = 0; c < n; c++) {
      context.fillStyle = (r + c) % 2 ? "#7b7e88" : "#8d909a";
      context.fillRect(x + (c * w) / n, y + (r * h) / n, w / n + 0.5, h / n + 0.5);
    }
  }
}

/** A colour from dark blue (0) over green to yellow (1), readable without colour by its lightness. */
export function heat(v) {
  const stops = [[47, 20, 90], [49, 84, 150], [34, 142, 140], [94, 201, 98], [253, 231, 80]];
  const at = Math.min(Math.max(v, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(at), stops.length - 2);
  return stops[i].map((a, c) => Math.round(a + (stops[i + 1][c] - a) * (at - i)));
}
