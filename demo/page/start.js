// Starts the module. What cannot work is said in a sentence.
import init from "./beit_egui.js";

function trouble(text) {
  const p = document.getElementById("trouble");
  p.textContent = text;
  p.hidden = false;
  document.getElementById("window").hidden = true;
}

// A mistake of the program's own ends it; the console has the details.
addEventListener("error", ({ message }) => trouble(`The program stopped: ${message}. Reload the page to start again.`));

if (!navigator.gpu) {
  trouble("This browser has no WebGPU here (it needs https or localhost, and a browser of 2025 or later).");
} else {
  init({ module_or_path: new URL("beit_egui_bg.wasm", import.meta.url) }).catch((e) => trouble(`The program could not be started: ${e}`));
}
