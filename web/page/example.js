import { Beit } from "./beit/beit.js";

const say = (text) => (document.getElementById("say").textContent += `${text}\n`);
try {
  const beit = await Beit.create();
  const model = await beit.loadFrom("model");
  const picture = await beit.scene(1_000_001, 128);
  const mask = await beit.mask("blockwise", 0.4, 7);
  const found = await beit.reconstruct(picture, mask);
  const out = document.getElementById("out");
  [out.width, out.height] = [model.image, model.image];
  out.getContext("2d").putImageData(found.pictures.reconstructed, 0, 0);
  say(`${found.figures.masked} patches hidden, ${Math.round(100 * found.figures.accuracy)} % predicted exactly`);
  say(`features: ${(await beit.features(picture)).length} numbers`);
  await beit.dispose();
} catch (error) {
  say(`${error.code}: ${error.message}`);
}
