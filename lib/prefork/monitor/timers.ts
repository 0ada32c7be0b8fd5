/**
 * What the monitor does by the clock, and what else it holds for as long as the server lives: all of it ends together,
 * and nothing begins after that.
 */
import type { Loop } from '../../process/loop.ts';

export class Timers {
  readonly #loop: Loop;
  readonly #held = new Set<Disposable>();
  #wake: Disposable | undefined;
  #closed = false;

  constructor(loop: Loop) {
    this.#loop = loop;
  }

  hold(disposable: Disposable): void {
    if (this.#closed) disposable[Symbol.dispose]();
    else this.#held.add(disposable);
  }

  after(ms: number, callback: () => void): void {
    if (this.#closed) return;
    const timer = this.#loop.watchTime({ after: ms }, () => {
      this.#held.delete(timer);
      callback();
    });
    this.#held.add(timer);
  }

  every(ms: number, callback: () => void): void {
    const again = () => {
      callback();
      this.after(ms, again);
    };
    this.after(ms, again);
  }

  /** Instead of the last one; never, for what is no number of milliseconds. */
  wakeAfter(ms: number, callback: () => void): void {
    this.#wake?.[Symbol.dispose]();
    this.#wake = undefined;
    if (!this.#closed && Number.isFinite(ms)) this.#wake = this.#loop.watchTime({ after: ms }, callback);
  }

  close(): void {
    this.#closed = true;
    this.#wake?.[Symbol.dispose]();
    for (const disposable of this.#held) disposable[Symbol.dispose]();
    this.#held.clear();
  }
}
