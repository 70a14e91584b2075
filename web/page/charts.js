// Small curves, drawn as SVG.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [300, 90];
/** Points drawn of a curve at most. */
const POINTS = 300;

export class Chart {
  #main = [];
  #other = [];
  #path = element("path", "main");
  #second = element("path", "other");
  #value = document.createElement("p");
  #svg;
  #format;
  #name;
  #zero;
  #ends = [document.createElement("span"), document.createElement("span")];

  /** `zero`: the axis begins at 0 and not at the least value. */
  constructor(parent, name, format, { zero = false } = {}) {
    this.#name = name;
    this.#format = format;
    this.#zero = zero;
    const root = document.createElement("div");
    root.className = "chart";
    const title = document.createElement("h3");
    title.textContent = name;
    this.#svg = element("svg", "");
    this.#svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.#svg.setAttribute("preserveAspectRatio", "none");
    this.#svg.setAttribute("role", "img");
    const axis = element("path", "axis");
    axis.setAttribute("d", `M0 ${HEIGHT}H${WIDTH}`);
    this.#svg.append(axis, this.#second, this.#path);
    const plot = document.createElement("div");
    plot.className = "plot";
    for (const end of this.#ends) end.setAttribute("aria-hidden", "true");
    plot.append(this.#svg, ...this.#ends);
    root.append(title, this.#value, plot);
    parent.append(root);
    this.clear();
  }

  clear() {
    [this.#main, this.#other] = [[], []];
    this.#value.textContent = "–";
    this.#draw(1);
  }

  /** Adds a point at `step` of `steps`; `other` is drawn dashed for comparison. */
  add(step, steps, value, other, note = "") {
    if (!Number.isFinite(value)) return;
    // A training that was put back to a snapshot repeats some steps.
    for (const list of [this.#main, this.#other]) while (list.length && list.at(-1)[0] >= step) list.pop();
    this.#main.push([step, value]);
    if (Number.isFinite(other)) this.#other.push([step, other]);
    const small = document.createElement("small");
    small.textContent = note;
    this.#value.replaceChildren(this.#format(value), small);
    this.#draw(steps);
  }

  #draw(steps) {
    const all = [...this.#main, ...this.#other].map((p) => p[1]);
    const [low, high] = [this.#zero ? 0 : Math.min(...all), Math.max(...all)];
    const range = high - low || Math.abs(high) || 1;
    const line = (points) => {
      const every = Math.max(1, Math.ceil(points.length / POINTS));
      const shown = points.filter((_, i) => i % every === 0 || i === points.length - 1);
      const at = ([step, v]) => `${((step / steps) * WIDTH).toFixed(1)} ${(HEIGHT - 4 - ((v - low) / range) * (HEIGHT - 8)).toFixed(1)}`;
      return shown.length ? `M${shown.map(at).join("L")}` : "";
    };
    this.#path.setAttribute("d", line(this.#main));
    this.#second.setAttribute("d", line(this.#other));
    this.#ends.forEach((end, i) => (end.textContent = all.length ? this.#format(i ? low : high) : ""));
    const [first, last] = [this.#main[0], this.#main.at(-1)];
    const said = last ? `from ${this.#format(first[1])} to ${this.#format(last[1])} at update ${last[0]}` : "no values yet";
    this.#svg.setAttribute("aria-label", `${this.#name}: ${said}`);
  }
}

function element(name, kind) {
  const made = document.createElementNS(SVG, name);
  if (kind) made.setAttribute("class", kind);
  return made;
}
