/**
 * Whether a service is started again, and when. Pure bookkeeping on the clock that it is given: starts and stops nothing.
 * Asked by a service's starter at every end that nobody wanted.
 *
 * The first end after a good while is followed by a start at once; those that come soon after one another wait longer
 * and longer, each a little differently, so that services that fell together do not rise together for ever.
 */
import { span, times } from '../daemon/words.ts';
import type { ExitStatus } from '../process/contract.ts';
import type { Clock } from './clock.ts';

/** `permanent`: always. `transient`: unless it ended well (code 0). `temporary`: never. */
export type RestartType = 'permanent' | 'transient' | 'temporary';

/** What an exit code means, whatever the type: start again, give up, or an end that is well. */
export type ExitRule = 'retry' | 'never' | 'done';

export interface Backoff {
  /** ms before the second start in a row; doubled from there on. */
  readonly min: number;
  readonly max: number;
  /** By how much a delay may be longer or shorter: 0.2 is a fifth. */
  readonly jitter: number;
  /** ms of being ready after which it counts as well again. */
  readonly resetAfter: number;
}

/** More than `restarts` within so many ms are too many. */
export interface Intensity {
  readonly restarts: number;
  readonly within: number;
}

export interface RestartOptions {
  readonly type: RestartType;
  readonly backoff: Backoff;
  readonly intensity: Intensity;
  readonly exitCodes?: Readonly<Record<number, ExitRule>>;
}

export type Decision =
  | { readonly action: 'restart'; readonly delay: number; readonly failures: number }
  /** It ended, and that was its purpose. */
  | { readonly action: 'done' }
  | { readonly action: 'fail'; readonly reason: 'intensity' | 'exit-code'; readonly message: string };

export class RestartPolicy {
  readonly #options: RestartOptions;
  readonly #clock: Clock;
  readonly #random: () => number;
  #failures = 0;
  #readySince: number | null = null;
  #restarts: number[] = [];

  constructor(options: RestartOptions, clock: Clock, random: () => number = Math.random) {
    this.#options = options;
    this.#clock = clock;
    this.#random = random;
  }

  /** In a row. */
  get failures(): number {
    return this.#failures;
  }

  ready(): void {
    this.#readySince = this.#clock.now();
  }

  /** Somebody started it by hand: what was is forgotten. */
  reset(): void {
    this.#failures = 0;
    this.#readySince = null;
    this.#restarts = [];
  }

  /**
   * It has ended, or (null) could not be started, without anybody wanting that. What was not its own fault waits as long
   * as anything else, and does not count among those that are too many.
   */
  ended(exit: ExitStatus | null, fault: 'its' | 'none' = 'its'): Decision {
    const { type, exitCodes = {}, backoff } = this.#options;
    const now = this.#clock.now();
    if (this.#readySince !== null && now - this.#readySince >= backoff.resetAfter) this.#failures = 0;
    this.#readySince = null;
    const code = exit?.exitCode ?? null;
    const rule = code === null ? undefined : exitCodes[code];
    if (rule === 'never') {
      return {
        action: 'fail',
        reason: 'exit-code',
        message: `Exit code ${code} means not to start it again`,
      };
    }
    if (rule === 'done') return { action: 'done' };
    if (rule !== 'retry' && (type === 'temporary' || (type === 'transient' && code === 0))) {
      return { action: 'done' };
    }
    if (fault === 'none') return this.#again();
    const tooMany = this.#tooMany(now);
    if (tooMany === null) this.#restarts.push(now);
    return tooMany ?? this.#again();
  }

  #tooMany(now: number): Decision | null {
    const { restarts, within } = this.#options.intensity;
    this.#restarts = this.#restarts.filter((time) => now - time < within);
    if (this.#restarts.length < restarts) return null;
    const message = `It was started again ${times(this.#restarts.length)} within ${span(within)}`;
    return { action: 'fail', reason: 'intensity', message };
  }

  #again(): Decision {
    const { min, max, jitter } = this.#options.backoff;
    const failures = this.#failures++;
    // The thousandth doubling is no number any more.
    const base = failures === 0 ? 0 : Math.min(max, min * 2 ** Math.min(failures - 1, 52));
    const delay = Math.min(max, base * (1 + jitter * (2 * this.#random() - 1)));
    return { action: 'restart', delay, failures: this.#failures };
  }
}
