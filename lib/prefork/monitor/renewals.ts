/**
 * Replacements of all workers: a reload (the application is loaded anew) or a refork (the warmest worker becomes the
 * mold of the others). One at a time, each ready-gated, and each all or nothing: what fails leaves the former generation
 * as it was. `renewal.ts` judges how one goes; `server.ts` tells of it.
 */
import type { PreforkEvents } from '../contract.ts';
import type { Failure } from '../messages.ts';
import type { Plan } from '../plan.ts';
import { monotonic } from '../scoreboard.ts';
import type { Crew } from './crew.ts';
import type { Mold } from './mold.ts';
import type { Molds } from './molds.ts';
import type { Pool } from './pool.ts';
import { Renewal } from './renewal.ts';
import type { Standing } from './standing.ts';
import type { Worker } from './worker.ts';

export interface RenewalsHost {
  settle(): void;
  cannotFork(reason: string): void;
  onReloading(generation: number): void;
  onReloaded(done: PreforkEvents['reload-done'][0]): void;
  onNotReloaded(failed: PreforkEvents['reload-failed'][0]): void;
  /** Done or failed. */
  onReloadOver(): void;
  onRefork(refork: PreforkEvents['refork'][0]): void;
  onWarning(message: string): void;
}

export class Renewals {
  readonly #plan: Plan;
  readonly #pool: Pool;
  readonly #crew: Crew;
  readonly #molds: Molds;
  readonly #standing: Standing;
  readonly #host: RenewalsHost;
  #lastGeneration: number;
  #renewal: Renewal | undefined;
  /** The last of those that run or wait; the first waits until the server is ready. */
  #last: Promise<void>;
  /** A reload that has not begun yet: whoever asks for one gets it. */
  #nextReload: Promise<void> | undefined;
  #reforks = 0;
  #promoting: { worker: Worker; mold: Mold } | undefined;

  constructor(
    plan: Plan,
    pool: Pool,
    crew: Crew,
    molds: Molds,
    standing: Standing,
    serverReady: Promise<void>,
    host: RenewalsHost,
  ) {
    this.#plan = plan;
    this.#pool = pool;
    this.#crew = crew;
    this.#molds = molds;
    this.#standing = standing;
    this.#last = serverReady;
    this.#host = host;
    this.#lastGeneration = pool.generation;
  }

  // ------------------------------------------------------------------------------- what happens meanwhile

  ready(generation: number): void {
    this.#renewal?.ready(generation);
  }

  /** A worker ended unasked. True when that is the end of a renewal, and nothing else follows from it. */
  failed(generation: number, wasReady: boolean, message: string): boolean {
    return this.#renewal?.failed(generation, wasReady, message) ?? false;
  }

  complete(): void {
    this.#renewal?.complete();
  }

  abort(message: string): void {
    this.#renewal?.abort(message);
  }

  promoted(worker: Worker, pid: number): void {
    if (this.#promoting?.worker === worker) this.#promoting.mold.named(pid);
  }

  notPromoted(worker: Worker, error: Failure): void {
    if (this.#promoting?.worker === worker) this.#promoting.mold.unborn(error);
  }

  // ------------------------------------------------------------------------------- what is asked for

  reload(): Promise<void> {
    this.#nextReload ??= this.#afterRenewal(() => {
      this.#nextReload = undefined;
      return this.#reload();
    });
    return this.#nextReload;
  }

  #afterRenewal(next: () => Promise<void>): Promise<void> {
    const renewing = this.#last.catch(() => {}).then(next);
    this.#last = renewing;
    renewing.catch(() => {});
    return renewing;
  }

  async #reload(): Promise<void> {
    this.#standing.checkRunning();
    const startedAt = monotonic();
    const generation = ++this.#lastGeneration;
    this.#host.onReloading(generation);
    try {
      await this.#renew(generation, () => this.#molds.load(generation));
      this.#reforks = 0;
      this.#host.onReloaded({ generation, ms: Math.round(monotonic() - startedAt) });
    } catch (error) {
      this.#host.onNotReloaded({ generation, message: (error as Error).message });
      throw error;
    } finally {
      this.#host.onReloadOver();
    }
  }

  /** All workers are replaced, or all that was stays as it was. */
  async #renew(generation: number, load: () => Promise<{ method: 'fork' | 'spawn' }>): Promise<void> {
    const former = this.#pool.generation;
    if (this.#crew.method === 'fork') {
      const { method } = await load();
      if (method === 'spawn') this.#host.cannotFork('the application as it is now cannot be forked');
    }
    this.#standing.checkRunning();
    this.#renewal = new Renewal(generation);
    this.#pool.renew(generation);
    this.#pool.reopen();
    // A mold that died and does not load again keeps nobody waiting: their places are the new generation's.
    this.#crew.forgetWaiting('drained', '', former);
    this.#host.settle();
    try {
      await this.#renewal.done;
      this.#molds.release(former);
    } catch (error) {
      this.#pool.renew(former);
      this.#crew.forgetWaiting('drained', '', generation);
      this.#molds.release(generation);
      throw error;
    } finally {
      this.#renewal = undefined;
      this.#host.settle();
    }
  }

  /** The warmest worker becomes the mold of the others. */
  reforkIfDue(): void {
    const after = this.#plan.reforkAfter[this.#reforks];
    if (after === undefined || this.#renewal !== undefined || this.#nextReload !== undefined) return;
    if (this.#crew.method !== 'fork' || !this.#pool.complete || this.#promoting !== undefined) return;
    const requests = (worker: Worker) => worker.entry.get('requests');
    const warmest = this.#crew.workers
      // One that was spawned for want of a mold shares nothing.
      .filter(({ member, method }) => member.state === 'ready' && method === 'fork')
      .sort((a, b) => requests(b) - requests(a))[0];
    if (warmest === undefined || requests(warmest) < after) return;
    this.#reforks++;
    this.#afterRenewal(() => this.#refork(warmest)).catch((error: Error) =>
      this.#host.onWarning(`Worker ${warmest.member.place} did not become a mold: ${error.message}`),
    );
  }

  async #refork(worker: Worker): Promise<void> {
    this.#standing.checkRunning();
    const generation = ++this.#lastGeneration;
    const title = `forkbeard: mold gen ${generation} [${this.#plan.title}]`;
    const promote = (theirs: number, mold: Mold) => {
      this.#promoting = { worker, mold };
      worker.send({ type: 'promote', generation, title }, [theirs]);
    };
    try {
      await this.#renew(generation, async () => {
        const loaded = await this.#molds.adopt(generation, promote);
        this.#host.onRefork({ worker: worker.member.place, generation });
        return loaded;
      });
    } finally {
      this.#promoting = undefined;
    }
  }
}
