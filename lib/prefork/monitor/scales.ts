/**
 * Which workers have grown beyond `--max-memory`. What is private to a process takes the kernel a walk through all its
 * pages to tell, so that is asked now and then only; what is resident it knows at once, and that is looked at often. A
 * worker whose private part may have come near the limit since it was last weighed is weighed again, and looked at sooner
 * and sooner the faster it grows. `watchdog.ts` asks; what follows is `server.ts`'s to say.
 */
import type { Plan } from '../plan.ts';
import { residentOf } from './memory.ts';
import type { Worker } from './worker.ts';

/** How often everybody is weighed, however he looks. ms */
const SAMPLE_EVERY = 5000;
/** How often everybody is looked at while there is a limit, and how soon at the soonest. ms */
const LOOK = { every: 500, soonest: 20 };
/** So near the limit, by what is resident, one is weighed. */
const NEAR = 0.9;
/** Found above the limit, one is weighed once more before he is called heavy: a peak may have passed by then. ms */
const SECOND_LOOK = 1000;
/** So far above the limit it is no peak that the next moment corrects. */
const FAR = 1.25;

interface Weighed {
  /** When it was last weighed, what of it was private then, and what was resident. */
  at: number;
  uss: number;
  resident: number;
  /** When it was last looked at, and what was resident then. */
  lookedAt: number;
  seen: number;
  /** When it was first found above the limit, of the times in a row. */
  aboveSince: number | undefined;
  told: boolean;
}

export class Scales {
  readonly #limit: number;
  readonly #sampleEvery: number;
  readonly #weighed = new WeakMap<Worker, Weighed>();

  constructor({ maxMemory }: Pick<Plan, 'maxMemory'>, sampleEvery = SAMPLE_EVERY) {
    this.#limit = maxMemory;
    this.#sampleEvery = sampleEvery;
  }

  /** Tells `onHeavy` of those above the limit, each once. Gives how long until the next look should be, ms. */
  look(now: number, workers: readonly Worker[], onHeavy: (worker: Worker) => void): number {
    let next = this.#limit === 0 ? this.#sampleEvery : Math.min(LOOK.every, this.#sampleEvery);
    for (const worker of workers) {
      if (worker.pid === 0) continue;
      if (this.#limit === 0) this.#sample(worker, now);
      else next = Math.min(next, this.#judge(worker, now, onHeavy));
    }
    return Math.max(LOOK.soonest, next);
  }

  /** Without a limit, for the record of its end alone. */
  #sample(worker: Worker, now: number): void {
    const last = this.#weighed.get(worker)?.at ?? Number.NEGATIVE_INFINITY;
    if (now - last >= this.#sampleEvery) this.#weigh(worker, now, 0);
  }

  #judge(worker: Worker, now: number, onHeavy: (worker: Worker) => void): number {
    const resident = residentOf(worker.pid);
    let weighed = this.#weighed.get(worker);
    if (weighed === undefined || this.#isDue(weighed, resident, now)) {
      weighed = this.#weigh(worker, now, resident);
      if (weighed.uss <= this.#limit) weighed.aboveSince = undefined;
      else weighed.aboveSince ??= now;
      if (this.#isHeavy(weighed, now)) {
        weighed.told = true;
        onHeavy(worker);
      }
    }
    const rate = (resident - weighed.seen) / Math.max(1, now - weighed.lookedAt);
    weighed.seen = resident;
    weighed.lookedAt = now;
    if (weighed.told) return Number.POSITIVE_INFINITY;
    if (weighed.aboveSince !== undefined) return weighed.aboveSince + SECOND_LOOK - now;
    // Half of the way that is left, at the pace of late.
    return rate > 0 ? (this.#limit - estimate(weighed, resident)) / rate / 2 : Number.POSITIVE_INFINITY;
  }

  #isDue(weighed: Weighed, resident: number, now: number): boolean {
    if (weighed.told) return now - weighed.at >= this.#sampleEvery;
    if (weighed.aboveSince !== undefined)
      return now - weighed.aboveSince >= SECOND_LOOK || estimate(weighed, resident) > FAR * this.#limit;
    // What was shared becomes private by being written to, and nothing grows by it: that is found in time.
    if (now - weighed.at >= this.#sampleEvery) return true;
    const guess = estimate(weighed, resident);
    // One that stays near the limit is not weighed at every look.
    return guess > NEAR * this.#limit && guess > weighed.uss + (this.#limit - weighed.uss) / 2;
  }

  #isHeavy({ uss, aboveSince, told }: Weighed, now: number): boolean {
    if (told || aboveSince === undefined) return false;
    return now - aboveSince >= SECOND_LOOK || uss > FAR * this.#limit;
  }

  #weigh(worker: Worker, now: number, resident: number): Weighed {
    const uss = worker.readMemory(0)?.uss ?? 0;
    const weighed = this.#weighed.get(worker) ?? {
      at: now,
      uss,
      resident,
      lookedAt: now,
      seen: resident,
      aboveSince: undefined,
      told: false,
    };
    Object.assign(weighed, { at: now, uss, resident });
    this.#weighed.set(worker, weighed);
    return weighed;
  }
}

/** What may be private by now: all that has come since. */
function estimate({ uss, resident: then }: Weighed, resident: number): number {
  return uss + Math.max(0, resident - then);
}
