/**
 * What is asked of one run of a service: whether it has begun (startup), whether it may be used (readiness, again and
 * again), whether it lives (liveness, again and again). The three are apart: only a start that is never over and a
 * liveness that is lost end a run; a service that is not ready is only said to be so. Made by the service's starter.
 */
import type { Loop } from '../process/loop.ts';
import type { Clock } from './clock.ts';
import { becomesReady, Judge, type Question } from './health.ts';
import type { Notices } from './notices.ts';
import { ask } from './probes.ts';
import type { Said } from './said.ts';
import type { Asked, AskedOnce, ServiceOptions } from './service-options.ts';

export interface CheckupAround {
  readonly loop: Loop;
  readonly clock: Clock;
  readonly notices: Notices;
  readonly said: Said;
  /** Its first process is stopped. */
  readonly isHalted: () => boolean;
}

export interface CheckupEvents {
  /** Liveness: another answer than before. Null is well. */
  health(problem: string | null): void;
  /** It is not ready any more, and why; or, with null, it is again. */
  readiness(problem: string | null): void;
  /** It does not live. The last word. */
  unwell(problem: string): void;
}

/** What is wrong with one whose first process is stopped, whoever asks. */
export const HALTED = 'its process is stopped';

export class Checkup {
  readonly #options: ServiceOptions;
  readonly #around: CheckupAround;
  #judges: Judge[] = [];

  constructor(options: ServiceOptions, around: CheckupAround) {
    this.#options = options;
    this.#around = around;
  }

  /** Null when it is; else what is wrong. Rejected with the signal's reason. */
  async untilReady(signal: AbortSignal): Promise<string | null> {
    const { startup, ready } = this.#options;
    const begun = startup == null ? null : await this.#first(startup, startup, 'had not begun', signal);
    if (begun !== null || ready === null) return begun;
    return this.#first(ready, ready, 'was not ready', signal);
  }

  /** From when it is ready, until `stop`. */
  watch({ health, readiness, unwell }: CheckupEvents): void {
    const { ready, live } = this.#options;
    const { clock, notices } = this.#around;
    if (live !== null) {
      const events = { answer: health, verdict: unwell };
      this.#judges.push(new Judge(this.#question(live, live.every), live, clock, events));
    }
    if (ready !== null && 'notify' in ready) {
      notices.onReadiness = readiness;
    } else if (ready?.every && !('log' in ready)) {
      const { every, timeout, failures = 1, successes = 1 } = ready;
      this.#judges.push(
        new Judge(this.#question(ready, every), { every, timeout, failures, successes }, clock, {
          answer: () => {},
          verdict: readiness,
          lifted: () => readiness(null),
        }),
      );
    }
  }

  stop(): void {
    this.#around.notices.onReadiness = () => {};
    for (const judge of this.#judges.splice(0)) judge.stop();
  }

  async #first(
    asked: AskedOnce,
    { within, timeout }: { within: number; timeout: number },
    what: string,
    signal: AbortSignal,
  ): Promise<string | null> {
    const { clock, notices, said } = this.#around;
    if ('log' in asked) return said.until(asked.log, within, signal);
    if ('notify' in asked) return notices.ready(within, signal);
    const problem = await becomesReady(this.#asking(asked.probe), { within, timeout }, clock, signal);
    return problem === null ? null : `it ${what} within ${within} ms: ${problem}`;
  }

  #question(asked: Asked, every: number): Question {
    const { notices, isHalted } = this.#around;
    const answers = 'notify' in asked ? async () => notices.watchdog(every) : this.#asking(asked.probe);
    return async (timeout) => {
      // It would answer nobody, and nobody would be told before the probe's time is over.
      return isHalted() ? HALTED : answers(timeout);
    };
  }

  #asking(probe: Extract<Asked, { probe: unknown }>['probe']): Question {
    const { env, settings } = this.#options;
    return (timeout) => ask(probe, { loop: this.#around.loop, timeout, env, cwd: settings?.cwd });
  }
}
