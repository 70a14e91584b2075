/** BEiT in the browser: masked image modelling on WebGPU. */

/** What every failing call rejects with. */
export interface BeitError extends Error {
  name: "BeitError";
  code:
    | "no-webgpu" | "no-adapter" | "small-limits" | "device-lost" | "out-of-memory" | "device"
    | "config" | "data" | "shape" | "file" | "io" | "diverged" | "disposed" | "crashed";
  /** What went wrong, in a few words. */
  what?: string;
  /** Where: a file, a setting, a tensor. */
  at?: string;
  expected?: string;
  got?: string;
  /** What to do about it. */
  hint?: string;
}

/** RGBA samples, row by row; an `ImageData` fits. */
export interface Picture {
  width: number;
  height: number;
  data: Uint8ClampedArray;
}

export interface DeviceInfo {
  name: string;
  class: string;
  /** Whether it computes on the CPU. */
  software: boolean;
  /** Largest tensor in bytes. */
  maxBinding: number;
  /** Largest buffer in bytes. */
  maxBuffer: number;
}

export interface ModelInfo {
  /** Side of the transformer's picture in pixels. */
  image: number;
  /** Side of a patch in pixels. */
  patch: number;
  rows: number;
  columns: number;
  width: number;
  depth: number;
  heads: number;
  /** Number of visual tokens. */
  vocab: number;
  /** Side of a token's picture in pixels. */
  cell: number;
  parameters: number;
  tokenizerParameters: number;
}

/** The files of a checkpoint folder. */
export interface ModelFiles {
  "model.safetensors": Uint8Array | ArrayBuffer;
  "config.json": Uint8Array | ArrayBuffer;
  "tokenizer.safetensors": Uint8Array | ArrayBuffer;
  "tokenizer.json": Uint8Array | ArrayBuffer;
}

export interface ReconstructOptions {
  /** Ids listed for each patch (5). */
  top?: number;
  /** Rounds of iterative decoding; 1 fills all patches at once (1). */
  rounds?: number;
  /** Above 0: also draw tokens at this temperature (0). */
  temperature?: number;
  /** Seed of the draw (0). */
  seed?: number;
}

/** Arrays have one element a patch, row by row; predictions are given for visible patches too. */
export interface Reconstruction {
  rows: number;
  columns: number;
  vocab: number;
  /** Ids listed for each patch. */
  top: number;
  /** 1 = hidden. */
  mask: Uint32Array;
  /** The tokenizer's ids. */
  trueIds: Uint32Array;
  /** Place of the tokenizer's id among the predictions, from 1. */
  rank: Uint32Array;
  /** Round in which iterative decoding filled the patch, from 1; 0 = it did not. */
  round: Uint32Array;
  trueProbability: Float32Array;
  /** Probability of the most probable id. */
  confidence: Float32Array;
  /** Entropy of the prediction in nats. */
  entropy: Float32Array;
  /** `[patches, top]`, most probable first. */
  topIds: Uint32Array;
  topProbabilities: Float32Array;
  /** Means over the hidden patches: cross-entropy in nats, shares, errors of pixels in 0..1. */
  figures: {
    masked: number;
    loss: number;
    accuracy: number;
    accuracy_top5: number;
    entropy: number;
    mae: number;
    ceiling_mae: number;
    iterated_accuracy?: number;
    iterated_mae?: number;
  };
  pictures: {
    original: ImageData;
    corrupted: ImageData;
    /** The most probable tokens, decoded into the hidden patches. */
    reconstructed: ImageData;
    /** Everything from tokens. */
    tokensOnly: ImageData;
    /** The tokenizer's own reconstruction. */
    ceiling: ImageData;
    sampled?: ImageData;
    iterated?: ImageData;
  };
}

export interface TrainingOptions {
  kind?: "tokenizer" | "model";
  /** From random numbers instead of the loaded weights (true). */
  fresh?: boolean;
  /** On the pictures given to `addPicture` instead of the built-in scenes (false). */
  own?: boolean;
  steps?: number;
  /** Pictures per update. */
  batch?: number;
  seed?: number;
}

export interface TrainingStep {
  step: number;
  steps: number;
  batch: number;
  /** Model: in nats. Tokenizer: `nll` or `mse` plus the weighted divergence, per pixel value. `null` if it is not a number. */
  loss: number | null;
  /** Share of hidden tokens predicted exactly (model). */
  accuracy?: number;
  /** Share of the commonest token: what guessing it always would reach (model). */
  chance?: number;
  /** Negative log-likelihood of a pixel value in nats (tokenizer of the released network). */
  nll?: number;
  /** Squared error of a pixel value in -1..1 (tokenizer of the customised network). */
  mse?: number;
  /** Divergence from evenly used ids, nats per cell, before its weight (tokenizer). */
  kl?: number;
  /** exp(entropy) of the ids of the last updates, and how many ids occurred. */
  perplexity: number;
  used: number;
  vocab: number;
}

/** Times of a workload of docs/performance.md, in seconds. */
export interface Bench {
  label: string;
  /** Pictures of one run; 0 for a product of matrices. */
  images: number;
  flops: number;
  dispatches: number;
  /** Kernels compiled, everything allocated, first run. */
  first: number;
  seconds: number[];
}

export class Beit {
  /** Starts the module (`module`: where `beit_web_bg.wasm` is, if not beside this file) and opens the browser's GPU. */
  static create(options?: { module?: string | URL }): Promise<Beit>;
  device(): Promise<DeviceInfo>;
  load(files: ModelFiles): Promise<ModelInfo>;
  /** Fetches the four files of a checkpoint folder and loads them. */
  loadFrom(folder: string): Promise<ModelInfo>;
  model(): Promise<ModelInfo>;
  /** Decodes PNG, JPEG, WebP, GIF or BMP with limits; the longest side becomes at most `longest` (512). */
  decode(file: ArrayBuffer | Uint8Array, longest?: number): Promise<ImageData>;
  /** A built-in scene; those from 1,000,000 on are never trained on. */
  scene(index: number, side?: number): Promise<ImageData>;
  /** 1 = hidden, one element a patch. */
  mask(kind: "blockwise" | "random", share: number, seed?: number): Promise<Uint8Array>;
  reconstruct(picture: Picture, mask: ArrayLike<number>, options?: ReconstructOptions): Promise<Reconstruction>;
  /** Attention from a patch in the last reconstruction; layer −1: rollout over all blocks, head −1: mean of the heads. */
  attention(patch: number, options?: { layer?: number; head?: number }): Promise<Float32Array>;
  /** The tokenizer's id of every patch. */
  tokenize(picture: Picture): Promise<Uint32Array>;
  /** `[patches, vocab]` under a mask. */
  logits(picture: Picture, mask: ArrayLike<number>): Promise<Float32Array>;
  /** Mean of the patch tokens after a block; −1 is the last. */
  features(picture: Picture, options?: { layer?: number }): Promise<Float32Array>;
  /** Each id as a picture of one cell. */
  tokenPictures(ids: ArrayLike<number>): Promise<ImageData[]>;
  /** Adds a training picture and gives their number. */
  addPicture(picture: Picture): Promise<number>;
  clearPictures(): Promise<void>;
  startTraining(options?: TrainingOptions): Promise<void>;
  trainStep(): Promise<TrainingStep>;
  /** Copies the training to the host, which is what `recover` goes on from (done now and then anyway); gives its step. */
  snapshot(): Promise<number>;
  /** Keeps what was trained. */
  endTraining(): Promise<void>;
  /** Goes back to the weights from before the training. */
  dropTraining(): Promise<void>;
  /** The files of a checkpoint folder, for `beit` and transformers. */
  export(): Promise<Record<string, Uint8Array>>;
  /** After `device-lost`: opens the GPU again and puts everything back; gives the training's step or −1. */
  recover(): Promise<number>;
  /** Times a workload: matmul, f-micro, f, t-micro, t-tiny or d. */
  bench(workload: string, runs?: number): Promise<Bench>;
  /** Frees the memory of the module and of the device; later calls reject with `disposed`. */
  dispose(): Promise<void>;
}
