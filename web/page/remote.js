// The page's end of the worker: `remote.call("reconstruct", …)` as a promise, events of training.

export class Remote extends EventTarget {
  #worker;
  #waiting = new Map();
  #next = 0;

  constructor() {
    super();
    this.#worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#arrived(data);
    this.#worker.onerror = (event) => this.#died(event.message || "the worker could not be started");
  }

  call(method, ...args) {
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, method, args });
    });
  }

  end() {
    this.#worker.terminate();
    this.#died("ended");
  }

  #arrived({ id, result, error, event, ...rest }) {
    if (event) {
      this.dispatchEvent(new CustomEvent(event, { detail: { ...rest, error } }));
      return;
    }
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) waiting?.reject(Object.assign(new Error(error.message), error));
    else waiting?.resolve(result);
  }

  #died(message) {
    const error = Object.assign(new Error(message), { code: "crashed" });
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
