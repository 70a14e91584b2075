// Time for the engine's tasks.

export const seconds = () => performance.now() / 1000;

export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
