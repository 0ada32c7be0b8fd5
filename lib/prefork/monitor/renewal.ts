/**
 * One replacement of all workers by those of a new generation, after a reload or a refork: whether it goes on, is done
 * or has failed. The first worker of the new generation is the canary: if it does not become ready, nothing else is
 * touched. Later failures are tried again, until there are several in a row.
 */
import { GIVE_UP_AFTER } from './policy.ts';

export class Renewal {
  readonly generation: number;
  /** Fulfilled when every place has a worker of the generation. */
  readonly done: Promise<void>;
  #resolve: () => void = () => {};
  #reject: (error: Error) => void = () => {};
  #anyReady = false;
  #failures = 0;

  constructor(generation: number) {
    this.generation = generation;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Whoever waits for it hears of it; nobody has to.
    this.done.catch(() => {});
  }

  ready(generation: number): void {
    if (generation !== this.generation) return;
    this.#anyReady = true;
    this.#failures = 0;
  }

  /** A worker ended unasked. True when the renewal is over for it. */
  failed(generation: number, wasReady: boolean, message: string): boolean {
    if (generation !== this.generation || wasReady) return false;
    if (this.#anyReady && ++this.#failures < GIVE_UP_AFTER) return false;
    this.#reject(new Error(message));
    return true;
  }

  complete(): void {
    this.#resolve();
  }

  abort(message: string): void {
    this.#reject(new Error(message));
  }
}
