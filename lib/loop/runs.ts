/**
 * The runs of a loop that are under way: `run` and `runSync` begin one, `stop` ends the latest, and `close` all of them.
 * Used by the loop, which says when the promises of those that have ended may be settled.
 */

export interface Run {
  /** A blocking run looks at this after each round; the promise of an integrated one is settled by the functions. */
  ended: boolean;
  result: unknown;
  resolve?: (result: unknown) => void;
  reject?: (error: Error) => void;
}

export class Runs {
  readonly #open: Run[] = [];
  /** Integrated ones whose promises are settled when the round is over. */
  #ended: Run[] = [];

  get size(): number {
    return this.#open.length;
  }

  /** A blocking one; `leave` must follow. */
  enter(): Run {
    const run: Run = { ended: false, result: undefined };
    this.#open.push(run);
    return run;
  }

  leave(run: Run): void {
    const index = this.#open.indexOf(run);
    if (index >= 0) this.#open.splice(index, 1);
  }

  promise(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#open.push({ ended: false, result: undefined, resolve, reject });
    });
  }

  /** Ends the latest. */
  end(result: unknown): void {
    const run = this.#open.pop();
    if (run === undefined) return;
    run.ended = true;
    run.result = result;
    if (run.resolve !== undefined) this.#ended.push(run);
  }

  /** Settles the promises of those that have ended. Returns how many there were. */
  settle(): number {
    const ended = this.#ended;
    if (ended.length === 0) return 0;
    this.#ended = [];
    for (const run of ended) run.resolve?.(run.result);
    return ended.length;
  }

  /** Rejects the promises of all, the latest first. */
  rejectAll(error: () => Error): void {
    const promised = this.#open.filter((run) => run.reject !== undefined);
    this.#open.length = 0;
    for (const run of promised.reverse()) run.reject?.(error());
  }
}
