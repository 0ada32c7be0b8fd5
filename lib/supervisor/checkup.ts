/**
 * What is asked of one run of a service: whether it has begun (startup), whether it may be used (readiness, again and
 * again), whether it lives (liveness, again and again). The three are apart: only a start that is never over and a
 * liveness that is lost end a run; a service that is not ready is only said to be so. Made by the service's starter.
 */
import { span } from '../daemon/words.ts';
import type { Loop } from '../process/loop.ts';
import type { Clock } from './clock.ts';
import { type Answer, becomesReady, Judge, NotAsked, PROBE_DEFAULTS, type Question } from './health.ts';
import type { Notices } from './notices.ts';
import { ask } from './probes.ts';
import type { Said } from './said.ts';
import type { Asked, AskedOnce, ServiceOptions, Unknown } from './service-options.ts';

export interface CheckupAround {
  readonly loop: Loop;
  readonly clock: Clock;
  readonly notices: Notices;
  readonly said: Said;
  /** Its first process is stopped. */
  readonly isHalted: () => boolean;
  /** It cannot be asked, and why; or, with null, it can again. */
  readonly unknown: (what: Unknown, reason: string | null) => void;
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
  readonly #unknown = new Set<Unknown>();

  constructor(options: ServiceOptions, around: CheckupAround) {
    this.#options = options;
    this.#around = around;
  }

  /** Null when it is; else what is wrong. Rejected with the signal's reason. */
  async untilReady(signal: AbortSignal): Promise<string | null> {
    const { startup, ready } = this.#options;
    const begun =
      startup == null ? null : await this.#first('startup', startup, startup, 'had not begun', signal);
    if (begun !== null || ready === null) return begun;
    return this.#first('ready', ready, ready, 'was not ready', signal);
  }

  /**
   * Of one that was ready before we had it: what is wrong with it now, or null. It is past its start, whose limits are not
   * for it: as of any that runs, its liveness decides whether it may stay.
   */
  async isReady(): Promise<string | null> {
    const { ready } = this.#options;
    if (ready === null || 'notify' in ready || 'log' in ready) return null;
    const answer = await this.#question('ready', ready, 0)(ready.timeout);
    return answer instanceof NotAsked ? null : answer;
  }

  /** From when it is ready, or was, until `stop`. `unready`: what is wrong with it from the beginning. */
  watch({ health, readiness, unwell }: CheckupEvents, unready: string | null = null): void {
    const { ready, live } = this.#options;
    const { clock, notices } = this.#around;
    if (live !== null) {
      const events = { answer: health, verdict: unwell };
      this.#judges.push(new Judge(this.#question('live', live, live.every), live, clock, events));
    }
    if (ready !== null && 'notify' in ready) {
      notices.onReadiness = readiness;
    } else if (ready !== null && !('log' in ready) && (ready.every || unready !== null)) {
      const { every = PROBE_DEFAULTS.ready.every, timeout, failures = 1, successes = 1 } = ready;
      this.#judges.push(
        new Judge(this.#question('ready', ready, every), { every, timeout, failures, successes }, clock, {
          answer: () => {},
          verdict: readiness,
          lifted: () => readiness(null),
          isCondemned: unready !== null,
        }),
      );
    }
  }

  stop(): void {
    this.#around.notices.onReadiness = () => {};
    for (const judge of this.#judges.splice(0)) judge.stop();
  }

  async #first(
    about: Unknown,
    asked: AskedOnce,
    { within, timeout }: { within: number; timeout: number },
    what: string,
    signal: AbortSignal,
  ): Promise<string | null> {
    const { clock, notices, said } = this.#around;
    if ('log' in asked) return said.until(asked.log, within, signal);
    if ('notify' in asked) return notices.ready(within, signal);
    const problem = await becomesReady(this.#asking(about, asked.probe), { within, timeout }, clock, signal);
    return problem === null ? null : `it ${what} within ${span(within)}: ${problem}`;
  }

  #question(about: Unknown, asked: Asked, every: number): Question {
    const { notices, isHalted } = this.#around;
    const answers =
      'notify' in asked
        ? async () => this.#see(about, notices.isInDoubt ? new NotAsked('EMFILE') : notices.watchdog(every))
        : this.#asking(about, asked.probe);
    return async (timeout) => {
      // It would answer nobody, and nobody would be told before the probe's time is over.
      return isHalted() ? HALTED : answers(timeout);
    };
  }

  #asking(about: Unknown, probe: Extract<Asked, { probe: unknown }>['probe']): Question {
    const { env, settings } = this.#options;
    return async (timeout) => {
      const answer = await ask(probe, { loop: this.#around.loop, timeout, env, cwd: settings?.cwd });
      return this.#see(about, answer);
    };
  }

  /** Told at the first question that could not be asked, and at the first that could again. */
  #see(about: Unknown, answer: Answer): Answer {
    const isUnknown = answer instanceof NotAsked;
    if (isUnknown !== this.#unknown.has(about)) {
      if (isUnknown) this.#unknown.add(about);
      else this.#unknown.delete(about);
      this.#around.unknown(about, isUnknown ? answer.reason : null);
    }
    return answer;
  }
}
