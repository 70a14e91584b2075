// Pictures as canvases: at the model's size, side by side, as a file.

/** An image on a canvas of its own size. */
export function onCanvas(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** The middle square of an image at `side` × `side` pixels: what the model looks at. */
export function centred(image, side) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const shorter = Math.min(image.width, image.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(onCanvas(image), (image.width - shorter) / 2, (image.height - shorter) / 2, shorter, shorter, 0, 0, side, side);
  return context.getImageData(0, 0, side, side);
}

/** Images side by side with a caption each, as a PNG. */
export function contactSheet(shown) {
  const [side, gap, line] = [256, 12, 34];
  const sheet = document.createElement("canvas");
  [sheet.width, sheet.height] = [shown.length * (side + gap) + gap, side + 2 * gap + line];
  const context = sheet.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, sheet.width, sheet.height);
  context.imageSmoothingEnabled = false;
  context.fillStyle = "#1c1e26";
  context.font = "15px system-ui, sans-serif";
  shown.forEach(([caption, image], i) => {
    const x = gap + i * (side + gap);
    context.drawImage(onCanvas(image), x, gap, side, side);
    context.fillText(caption, x, gap + side + 23, side);
  });
  return new Promise((resolve) => sheet.toBlob(resolve, "image/png"));
}
