// BEiT in the browser. One class; calls run one after the other; every failure is an Error with a `code`.
// Types: beit.d.ts. A page that stays responsive runs this in a worker, as ours does (worker.js).

import init, { Engine } from "./beit_web.js";

let started;

function fault(code, message) {
  return Object.assign(new Error(message), { name: "BeitError", code });
}

/** A trap leaves the module unusable; everything else that is thrown has a code already. */
function named(error) {
  if (error instanceof WebAssembly.RuntimeError) {
    return fault("crashed", "the module stopped after a mistake of its own; start a new one");
  }
  return error;
}

export class Beit {
  #engine;
  #about;
  #last = Promise.resolve();

  /** Starts the module and opens the browser's GPU. */
  static async create(options = {}) {
    if (!globalThis.navigator?.gpu) {
      throw fault("no-webgpu", "this browser has no WebGPU, or has it only on https and localhost");
    }
    // Asked before anything large is downloaded, and for its name, which the module cannot see.
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter) throw fault("no-adapter", "the browser found no graphics adapter that it may use");
    started ??= init({ module_or_path: options.module ?? new URL("beit_web_bg.wasm", import.meta.url) });
    await started;
    return new Beit(await Engine.open(), adapter.info);
  }

  /** Use `Beit.create`. */
  constructor(engine, about = {}) {
    this.#engine = engine;
    this.#about = about;
  }

  #call(work) {
    const next = this.#last.then(async () => {
      if (!this.#engine) throw fault("disposed", "this model was disposed of");
      try {
        return await work(this.#engine);
      } catch (error) {
        throw named(error);
      }
    });
    this.#last = next.catch(() => {});
    return next;
  }

  device() {
    const { vendor, architecture, description, isFallbackAdapter } = this.#about;
    const name = description || [vendor, architecture].filter(Boolean).join(" ");
    const software = Boolean(isFallbackAdapter) || /swiftshader|llvmpipe/i.test(name);
    return this.#call((e) => {
      const seen = e.device();
      return { ...seen, name: seen.name || name, software: seen.software || software };
    });
  }

  /** From the folder of a checkpoint: fetches its four files. */
  async loadFrom(folder) {
    const base = new URL(folder.endsWith("/") ? folder : `${folder}/`, globalThis.location?.href);
    const names = ["model.safetensors", "config.json", "tokenizer.safetensors", "tokenizer.json"];
    const read = async (name) => {
      const answer = await fetch(new URL(name, base));
      if (!answer.ok) throw fault("file", `${name}: the server answered ${answer.status}`);
      return new Uint8Array(await answer.arrayBuffer());
    };
    const files = await Promise.all(names.map(read));
    return this.load(Object.fromEntries(names.map((name, i) => [name, files[i]])));
  }

  load(files) {
    const bytes = (name) => {
      const found = files[name];
      if (!found) throw fault("file", `${name} is missing`);
      return found instanceof Uint8Array ? found : new Uint8Array(found);
    };
    return this.#call(async (e) => (await e.load(
      bytes("model.safetensors"), bytes("config.json"), bytes("tokenizer.safetensors"), bytes("tokenizer.json"),
    )).model);
  }

  model() {
    return this.#call((e) => e.model().model);
  }

  decode(bytes, longest = 512) {
    return this.#call((e) => picture(e.decode(new Uint8Array(bytes), longest)));
  }

  scene(index, side = 128) {
    return this.#call((e) => picture(e.scene(index, side)));
  }

  mask(kind, share, seed = 0) {
    return this.#call((e) => e.mask(kind, share, seed));
  }

  reconstruct(image, mask, { top = 5, rounds = 1, temperature = 0, seed = 0 } = {}) {
    return this.#call(async (e) => {
      const found = await e.reconstruct(...raw(image), mask, top, rounds, temperature, seed);
      for (const key of Object.keys(found.pictures)) found.pictures[key] = picture(found.pictures[key]);
      return found;
    });
  }

  attention(patch, { layer = -1, head = -1 } = {}) {
    return this.#call((e) => e.attention(layer, head, patch));
  }

  tokenize(image) {
    return this.#call((e) => e.tokenize(...raw(image)));
  }

  logits(image, mask) {
    return this.#call((e) => e.logits(...raw(image), mask));
  }

  features(image, { layer = -1 } = {}) {
    return this.#call((e) => e.features(...raw(image), layer));
  }

  tokenPictures(ids) {
    return this.#call(async (e) => (await e.tokenPictures(Uint32Array.from(ids))).map(picture));
  }

  addPicture(image) {
    return this.#call((e) => e.addPicture(...raw(image)));
  }

  clearPictures() {
    return this.#call((e) => e.clearPictures());
  }

  startTraining({ kind = "model", fresh = true, own = false, steps = 300, batch = 32, seed = 1 } = {}) {
    return this.#call((e) => e.startTraining(kind, fresh, own, steps, batch, seed));
  }

  trainStep() {
    return this.#call(async (e) => (await e.trainStep()).step);
  }

  snapshot() {
    return this.#call((e) => e.snapshot());
  }

  endTraining() {
    return this.#call((e) => e.endTraining());
  }

  dropTraining() {
    return this.#call((e) => e.dropTraining());
  }

  export() {
    return this.#call((e) => e.export());
  }

  bench(workload, runs = 5) {
    return this.#call(async (e) => (await e.bench(workload, runs)).bench);
  }

  recover() {
    return this.#call((e) => e.recover());
  }

  /** Frees the memory of the module and of the device. */
  dispose() {
    return this.#call((e) => {
      this.#engine = undefined;
      e.free();
    });
  }
}

function raw(image) {
  return [image.width, image.height, image.data];
}

function picture({ width, height, data }) {
  return typeof ImageData === "undefined" ? { width, height, data } : new ImageData(data, width, height);
}
