// Training in the tab: settings, start, pause, keep, reset, curves, and a film of reconstructions.

import { Chart } from "./charts.js";
import { readPicture } from "./files.js";
import { onCanvas } from "./sheet.js";

/** Updates between two looks at the picture, at least; and the least time between them in milliseconds. */
const LOOK_STEPS = 5;
const LOOK_PAUSE = 500;
/** Pictures in the film. */
const FILM = 10;

const byId = (id) => document.getElementById(id);

export class Trainer {
  #remote;
  #page;
  #charts;
  #mode = "idle";
  #kind = "model";
  #looked = { step: 0, at: 0 };
  #filmed = -1;
  #own = 0;

  /** `page` gives `say(text)`, `trouble(error)`, `look()` (a reconstruction or nothing), `showView(name)`, `changed()`. */
  constructor(remote, page) {
    this.#remote = remote;
    this.#page = page;
    const charts = byId("charts");
    const number = (digits) => (v) => v.toFixed(digits);
    this.#charts = {
      loss: new Chart(charts, "Loss", number(3)),
      accuracy: new Chart(charts, "Token accuracy", (v) => `${(100 * v).toFixed(1)} %`, { zero: true }),
      codebook: new Chart(charts, "Codebook usage", number(0), { zero: true }),
      rate: new Chart(charts, "Pictures per second", number(0), { zero: true }),
    };
    byId("start").onclick = () => this.#guard(() => this.#start());
    byId("pause").onclick = () => this.#guard(() => this.#pause());
    byId("keep").onclick = () => this.#guard(() => this.#end("endTraining", "The trained weights are kept. You can export them below."));
    byId("reset").onclick = () => this.#guard(() => this.#end("dropTraining", "Back to the weights from before."));
    byId("own").onchange = (event) => {
      this.addPictures([...event.target.files]);
      event.target.value = "";
    };
    remote.addEventListener("step", ({ detail }) => this.#step(detail.figures));
    remote.addEventListener("done", () => this.#finished());
    remote.addEventListener("stopped", ({ detail }) => {
      this.#set("paused");
      page.trouble(detail.error);
    });
    this.#set("idle");
  }

  get active() {
    return this.#mode !== "idle";
  }

  /** Adds training pictures; files that are none are counted and named. */
  async addPictures(files) {
    const failed = [];
    for (const file of files) {
      try {
        const image = await this.#remote.call("decode", await readPicture(file), 256);
        this.#own = await this.#remote.call("addPicture", image);
      } catch (error) {
        failed.push(`${file.name}: ${error.message}`);
      }
      byId("own-count").textContent = `${this.#own} added`;
    }
    if (this.#own) byId("source").value = "own";
    const skipped = failed.length ? ` ${failed.length} could not be read (${failed[0]}).` : "";
    this.#page.say(`${this.#own} pictures to train on.${skipped}`);
  }

  async #guard(work) {
    try {
      await work();
    } catch (error) {
      this.#page.trouble(error);
    }
  }

  async #start() {
    if (this.#mode === "paused") {
      this.#set("running");
      return this.#remote.call("run");
    }
    const value = (id) => byId(id).value;
    const settings = {
      kind: value("kind"), fresh: value("from") === "fresh", own: value("source") === "own",
      steps: Number(value("steps")), batch: Number(value("batch")), seed: Math.floor(Math.random() * 2 ** 31),
    };
    if (settings.own && !this.#own) {
      return this.#page.say("Add pictures to train on first.");
    }
    if (!byId("train-form").reportValidity()) return;
    document.documentElement.dataset.step = 0;
    this.#set("preparing");
    this.#page.say("Preparing the training.");
    try {
      await this.#remote.call("startTraining", settings);
    } catch (error) {
      this.#set("idle");
      throw error;
    }
    this.#kind = settings.kind;
    Object.values(this.#charts).forEach((chart) => chart.clear());
    byId("film").replaceChildren();
    this.#looked = { step: 0, at: 0 };
    this.#filmed = -1;
    byId("progress").value = 0;
    this.#page.showView(settings.kind === "tokenizer" ? "ceiling" : "reconstructed");
    this.#page.changed();
    this.#film(0, settings.steps, await this.#page.look());
    this.#set("running");
    this.#page.say(`Training the ${settings.kind === "tokenizer" ? "tokenizer" : "transformer"}.`);
    await this.#remote.call("run");
  }

  async #pause() {
    await this.#remote.call("pause");
    this.#set("paused");
    this.#page.say("Paused.");
  }

  async #end(method, said) {
    await this.#remote.call("pause");
    await this.#remote.call(method);
    this.#set("idle");
    this.#page.changed();
    await this.#page.look();
    const next = method === "endTraining" && this.#kind === "tokenizer" ? " The transformer does not know the new vocabulary yet: train it next." : "";
    this.#page.say(said + next);
  }

  async #finished() {
    this.#set("done");
    this.#page.say("Training is done. Keep the weights, or reset.");
    this.#page.changed();
    this.#film(1, 1, await this.#page.look());
  }

  async #step(f) {
    byId("progress").value = f.step / f.steps;
    byId("train-note").textContent = `Update ${f.step} of ${f.steps}.`;
    document.documentElement.dataset.step = f.step;
    const c = this.#charts;
    const at = [f.step, f.steps];
    const [loss, lossNote] = this.#kind === "model" ? [f.loss, `of ln ${f.vocab} = ${Math.log(f.vocab).toFixed(2)}`] : [f.loss, "per pixel value"];
    c.loss.add(...at, loss ?? Number.NaN, this.#kind === "model" ? Math.log(f.vocab) : Number.NaN, lossNote);
    c.accuracy.add(...at, f.accuracy ?? Number.NaN, f.chance ?? Number.NaN, `chance ${(100 * (f.chance ?? 0)).toFixed(1)} %`);
    c.codebook.add(...at, f.perplexity, Number.NaN, `perplexity; ${f.used} of ${f.vocab} ids seen`);
    c.rate.add(...at, f.rate, Number.NaN);
    const now = performance.now();
    if (f.step - this.#looked.step >= LOOK_STEPS && now - this.#looked.at >= LOOK_PAUSE) {
      this.#looked = { step: f.step, at: now };
      if (this.#kind === "tokenizer") this.#page.changed();
      this.#film(f.step, f.steps, await this.#page.look());
    }
  }

  /** Adds a picture when the next tenth of the training is reached. */
  #film(step, steps, found) {
    const slot = Math.floor((FILM * step) / steps);
    if (!found || slot <= this.#filmed) return;
    this.#filmed = slot;
    const image = found.pictures[this.#kind === "tokenizer" ? "ceiling" : "reconstructed"];
    const canvas = onCanvas(image);
    canvas.setAttribute("role", "img");
    const when = step === 0 ? "at the start" : step === steps ? "at the end" : `update ${step}`;
    canvas.setAttribute("aria-label", `Reconstruction ${when}`);
    const item = document.createElement("li");
    item.append(canvas, when);
    byId("film").append(item);
  }

  #set(mode) {
    this.#mode = mode;
    document.documentElement.dataset.training = mode;
    const busy = mode === "running" || mode === "preparing";
    byId("start").disabled = busy || mode === "done";
    byId("start").textContent = mode === "paused" ? "Continue" : "Start";
    byId("pause").disabled = mode !== "running";
    byId("keep").disabled = mode !== "paused" && mode !== "done";
    byId("reset").disabled = mode === "idle" || mode === "preparing";
    for (const id of ["kind", "from", "source", "steps", "batch"]) byId(id).disabled = mode !== "idle";
    if (mode === "idle") byId("train-note").textContent = "Nothing is running.";
    if (!byId("film").children.length && mode === "idle") {
      const empty = document.createElement("li");
      empty.className = "empty";
      empty.textContent = "Reconstructions of the picture above appear here while training.";
      byId("film").replaceChildren(empty);
    }
  }
}
