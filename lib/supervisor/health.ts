/**
 * Judges: whether a service has become ready, and whether it is still well. They ask (probes.ts, or anything that
 * answers) and count; what follows from a verdict is the starter's. A judge that was itself kept from running, by a
 * blocked event loop or a stopped process, does not count against the service what it missed meanwhile.
 */
import type { Clock } from './clock.ts';

/** Null when all is well, else what is wrong. */
export type Question = (timeout: number) => Promise<string | null>;

export interface ReadySettings {
  /** ms altogether. */
  readonly within: number;
  /** Of one question, ms. */
  readonly timeout: number;
}

export interface LiveSettings {
  readonly every: number;
  readonly timeout: number;
  /** Bad answers in a row that are a verdict. */
  readonly failures: number;
}

/** How soon a service that is not ready is asked again. */
const FIRST_PAUSE = 10;
const LONGEST_PAUSE = 250;

/**
 * Fulfilled with null when the answer is good for the first time, with the last answer when the time is over. Rejected
 * with the signal's reason.
 */
export async function becomesReady(
  question: Question,
  { within, timeout }: ReadySettings,
  clock: Clock,
  signal: AbortSignal,
): Promise<string | null> {
  let left = within;
  for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    const stalls = new Stalls(clock);
    const before = clock.now();
    const problem = await unlessAborted(question(Math.max(1, Math.min(timeout, left))), signal).catch(
      (error) => {
        stalls.stop();
        throw error;
      },
    );
    if (problem === null) {
      stalls.stop();
      return null;
    }
    await sleep(clock, Math.min(pause, Math.max(0, left)), signal);
    left -= clock.now() - before - stalls.stop();
    if (left <= 0) return problem;
  }
}

export interface LiveEvents {
  /** Another answer than before: null is well. */
  answer(problem: string | null): void;
  /** So many in a row were bad. The last word: it is not asked again. */
  verdict(problem: string): void;
}

/** Asks again and again until it is stopped, or has its verdict. */
export class LiveJudge {
  readonly #question: Question;
  readonly #settings: LiveSettings;
  readonly #clock: Clock;
  readonly #events: LiveEvents;
  readonly #ended = new AbortController();
  #problem: string | null = null;
  #failures = 0;

  constructor(question: Question, settings: LiveSettings, clock: Clock, events: LiveEvents) {
    this.#question = question;
    this.#settings = settings;
    this.#clock = clock;
    this.#events = events;
    this.#run().catch(() => {
      // Stopped: nobody wants to know any more.
    });
  }

  stop(): void {
    this.#ended.abort();
  }

  async #run(): Promise<void> {
    const { signal } = this.#ended;
    const { every, timeout, failures } = this.#settings;
    while (this.#failures < failures) {
      await sleep(this.#clock, every, signal);
      const stalls = new Stalls(this.#clock);
      const problem = await this.#question(timeout).finally(() => stalls.stop());
      signal.throwIfAborted();
      // It may have answered while we could not listen.
      if (problem !== null && stalls.total > timeout / 4) continue;
      this.#failures = problem === null ? 0 : this.#failures + 1;
      if (problem !== this.#problem) {
        this.#problem = problem;
        this.#events.answer(problem);
      }
    }
    this.#events.verdict(this.#problem as string);
  }
}

/** How long this process was kept from running, as far as it comes to more than a moment. */
class Stalls {
  static readonly #EVERY = 20;
  static readonly #MOMENT = 50;
  readonly #clock: Clock;
  #timer: Disposable;
  #due: number;
  #total = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#due = clock.now() + Stalls.#EVERY;
    this.#timer = clock.after(Stalls.#EVERY, () => this.#tick());
  }

  get total(): number {
    return this.#total;
  }

  stop(): number {
    this.#timer[Symbol.dispose]();
    this.#note();
    return this.#total;
  }

  #tick(): void {
    this.#note();
    this.#due = this.#clock.now() + Stalls.#EVERY;
    this.#timer = this.#clock.after(Stalls.#EVERY, () => this.#tick());
  }

  #note(): void {
    const late = this.#clock.now() - this.#due;
    if (late > Stalls.#MOMENT) this.#total += late;
    this.#due = Number.POSITIVE_INFINITY;
  }
}

/** Rejected with the signal's reason. */
export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason);
      return;
    }
    const timer = clock.after(ms, () => {
      signal.removeEventListener('abort', abort);
      resolve();
    });
    const abort = () => {
      timer[Symbol.dispose]();
      reject(signal.reason);
    };
    signal.addEventListener('abort', abort, { once: true });
  });
}

/** What comes first: the answer, or the end of all interest in it. */
export function unlessAborted<T>(answer: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener('abort', abort, { once: true });
    answer.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
