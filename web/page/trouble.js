// What stops the page, in plain sentences.

const TROUBLE = {
  "no-webgpu": ["This browser has no WebGPU", "The page computes on the graphics card through WebGPU, which this browser does not offer here. Chrome and Edge have it (on Linux for some graphics cards only), Safari from version 26, Firefox on Windows and on Macs. It works on https and on localhost only."],
  "no-adapter": ["No graphics adapter", "This browser has WebGPU, but found no adapter that it may use. Hardware acceleration may be switched off in its settings, or the driver is on its list of faulty ones."],
  "small-limits": ["This device is too small for the model", "Its graphics adapter allows only smaller buffers or workgroups than this model needs. The built-in model needs very little; a larger imported one may not fit."],
  "out-of-memory": ["Out of graphics memory", "Close other tabs that use the graphics card, train with a smaller batch, or take a smaller model."],
  "device-lost": ["The graphics device was lost", "The browser took it away and did not give it back. Start again; a training goes on from the weights that were exported."],
  crashed: ["The engine stopped", "It ended in a way that it should not. Start again; what was not exported is lost."],
};
const RESTARTS = ["device-lost", "crashed", "out-of-memory"];

/** The title and the sentence of an error's code, or nothing if the error's own message is enough. */
export function explain(error) {
  const known = TROUBLE[error.code];
  return known && { title: known[0], text: `${known[1]} (${error.message})`, restart: RESTARTS.includes(error.code) };
}
