/**
 * Judges: whether a service has become ready, and whether it is still well. They ask (probes.ts, or anything that
 * answers) and count; what follows from a verdict is the starter's. A judge that was itself kept from running, by a
 * blocked event loop or a stopped process, does not count against the service what it missed meanwhile.
 */
import type { Clock } from './clock.ts';

/**
 * It could not be asked: who asks lacks something (descriptors, memory). That is no answer, good or bad, and nothing is
 * counted for it.
 */
export class NotAsked {
  readonly reason: string;

  constructor(reason: string) {
    this.reason = reason;
  }
}

/** Null when all is well, else what is wrong. */
export type Answer = string | null | NotAsked;
export type Question = (timeout: number) => Promise<Answer>;

/** Until the first good answer, ms: altogether, and of one question. */
export interface StartSettings {
  readonly within: number;
  readonly timeout: number;
}

/** How it is asked again and again; ms. */
export interface AskingSettings {
  readonly every: number;
  readonly timeout: number;
  /** Bad answers in a row that are a verdict. */
  readonly failures: number;
  /** Good answers in a row that lift it. Default 1. */
  readonly successes?: number;
}

/** Without `every` it is asked until it is ready, and not again. */
export type ReadySettings = StartSettings & Partial<AskingSettings>;
export type LiveSettings = AskingSettings;

/** What a configuration that says no more than the question means. */
export const PROBE_DEFAULTS = {
  startup: { within: 60_000, timeout: 1000 },
  ready: { within: 30_000, timeout: 1000, every: 10_000, failures: 3, successes: 1 },
  live: { every: 10_000, timeout: 1000, failures: 3 },
} as const;

/** How soon a service that is not ready is asked again. */
const FIRST_PAUSE = 10;
const LONGEST_PAUSE = 250;

/**
 * Fulfilled with null when the answer is good for the first time, with the last answer when the time is over, in which
 * nothing counts for which it could not be asked. Rejected with the signal's reason.
 */
export async function becomesReady(
  question: Question,
  { within, timeout }: StartSettings,
  clock: Clock,
  signal: AbortSignal,
): Promise<string | null> {
  let left = within;
  for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    const stalls = new Stalls(clock);
    const before = clock.now();
    let problem: Answer;
    try {
      problem = await unlessAborted(question(Math.max(1, Math.min(timeout, left))), signal);
      if (problem === null) return null;
      await sleep(clock, Math.min(pause, Math.max(0, left)), signal);
    } finally {
      // It would tick for ever, and keep the process.
      stalls.stop();
    }
    if (problem instanceof NotAsked) continue;
    left -= clock.now() - before - stalls.total;
    if (left <= 0) return problem;
  }
}

export interface JudgeEvents {
  /** Another answer than before: null is well. */
  answer(problem: string | null): void;
  /** So many in a row were bad. */
  verdict(problem: string): void;
  /** So many in a row were good again. Without this a verdict is the last word, and it is not asked again. */
  lifted?(): void;
  /** It begins with a verdict that was told. */
  readonly isCondemned?: boolean;
}

/** Asks again and again until it is stopped. */
export class Judge {
  readonly #question: Question;
  readonly #settings: AskingSettings;
  readonly #clock: Clock;
  readonly #events: JudgeEvents;
  readonly #ended = new AbortController();

  constructor(question: Question, settings: AskingSettings, clock: Clock, events: JudgeEvents) {
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
    const { every, timeout, failures, successes = 1 } = this.#settings;
    let last: string | null = null;
    let condemned = this.#events.isCondemned ?? false;
    /** Answers in a row that speak against the verdict that stands. */
    let against = 0;
    for (;;) {
      await sleep(this.#clock, every, signal);
      const stalls = new Stalls(this.#clock);
      const problem = await this.#question(timeout).finally(() => stalls.stop());
      signal.throwIfAborted();
      // It may have answered while we could not listen.
      if (problem instanceof NotAsked || (problem !== null && stalls.total > timeout / 4)) continue;
      against = (problem === null) === condemned ? against + 1 : 0;
      if (problem !== last) this.#events.answer(problem);
      last = problem;
      // Whoever hears that may have stopped us.
      signal.throwIfAborted();
      if (against < (condemned ? successes : failures)) continue;
      against = 0;
      condemned = !condemned;
      if (!condemned) this.#events.lifted?.();
      else this.#events.verdict(problem as string);
      if (this.#events.lifted === undefined) return;
    }
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
