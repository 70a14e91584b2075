// One picture from the camera.

const byId = (id) => document.getElementById(id);

/** Opens the camera in a dialog and gives a square picture of 512 pixels, or nothing if it was closed. */
export async function takePicture() {
  if (!navigator.mediaDevices?.getUserMedia) throw new Error("This browser gives pages no camera here.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: false });
  } catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "The camera was not allowed." : "No camera was found.");
  }
  const [dialog, video] = [byId("camera-dialog"), byId("video")];
  video.srcObject = stream;
  dialog.returnValue = "";
  byId("snap").onclick = () => dialog.close("snap");
  byId("snap-cancel").onclick = () => dialog.close("");
  dialog.showModal();
  await video.play().catch(() => {});
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  const image = dialog.returnValue === "snap" && video.videoWidth ? square(video) : undefined;
  stream.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  return image;
}

function square(video) {
  const side = Math.min(video.videoWidth, video.videoHeight);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 512;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(video, (video.videoWidth - side) / 2, (video.videoHeight - side) / 2, side, side, 0, 0, 512, 512);
  return context.getImageData(0, 0, 512, 512);
}
