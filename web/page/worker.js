// The engine's thread: answers calls of the page in order, runs trainings, and gets over a lost device.

import { Beit } from "./beit/beit.js";

/** Waits before trying to open a lost device again, in milliseconds. */
const RETRIES = [0, 200, 600, 1500, 3000];

let beit;
let running = false;
/** The loop of updates; the next one begins when it has ended. */
let looping = Promise.resolve();
let recovering;

const own = {
  async open() {
    beit = await Beit.create();
    return beit.device();
  },
  async run() {
    if (running) return;
    running = true;
    looping = looping.then(loop).catch((error) => {
      running = false;
      postMessage({ event: "stopped", error: plain(error) });
    });
  },
  /** Whatever happens to the device while nothing runs, the training is safe. */
  async pause() {
    running = false;
    await looping;
    await withRecovery(() => beit.snapshot());
  },
};

async function loop() {
  while (running) {
    const from = performance.now();
    const figures = await withRecovery(() => beit.trainStep());
    figures.rate = (1000 * figures.batch) / (performance.now() - from);
    postMessage({ event: "step", figures });
    if (figures.step >= figures.steps) {
      running = false;
      postMessage({ event: "done" });
    }
    // Lets calls of the page in between two updates.
    await new Promise((resolve) => setTimeout(resolve));
  }
}

/** Does something, once more if the device was lost and is back. Calls that fail together share one recovery. */
async function withRecovery(work) {
  try {
    return await work();
  } catch (error) {
    if (error?.code !== "device-lost") throw error;
    recovering ??= announced(error).finally(() => (recovering = undefined));
    await recovering;
    return work();
  }
}

async function announced(error) {
  postMessage({ event: "lost" });
  postMessage({ event: "recovered", step: await recover(error) });
}

async function recover(error) {
  for (const pause of RETRIES) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    try {
      return await beit.recover();
    } catch (again) {
      error = again;
    }
  }
  throw error;
}

function plain(error) {
  return { code: error?.code ?? "crashed", message: String(error?.message ?? error), hint: error?.hint };
}

onmessage = async ({ data: { id, method, args } }) => {
  try {
    const result = method in own ? await own[method](...args) : await withRecovery(() => beit[method](...args));
    postMessage({ id, result });
  } catch (error) {
    postMessage({ id, error: plain(error) });
  }
};
