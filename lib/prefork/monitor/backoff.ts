/**
 * How long a place waits before it is filled again: at once after the first failure, then a tenth of a second, doubled
 * from failure to failure up to half a minute, each time a fifth more or less so that places do not beat in step. A
 * worker that has served for half a minute makes up for everything before it.
 */

const FIRST = 100;
const LONGEST = 30_000;
/** For what will not be better in a moment: the kernel is out of memory. */
const FIRST_LONG = 2000;
const SPREAD = 0.2;
/**
 * Whoever was killed did nothing wrong, and is back after so long at the latest. Not at once every time, since it may be
 * a system without memory that kills.
 */
const LONGEST_AFTER_KILL = 500;

/** Service after which failures are forgotten. ms */
export const STABLE = 30_000;

export class Backoff {
  readonly #random: () => number;
  #failures = 0;

  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** In a row. */
  get failures(): number {
    return this.#failures;
  }

  /** Another failure: how long to wait, in ms. */
  failed(how: 'soon' | 'long' | 'killed' = 'soon'): number {
    this.#failures++;
    const steps = this.#failures - (how === 'long' ? 1 : 2);
    if (steps < 0) return 0;
    const longest = how === 'killed' ? LONGEST_AFTER_KILL : LONGEST;
    const delay = Math.min(longest, (how === 'long' ? FIRST_LONG : FIRST) * 2 ** Math.min(steps, 30));
    return Math.round(delay * (1 + SPREAD * (2 * this.#random() - 1)));
  }

  reset(): void {
    this.#failures = 0;
  }
}
