/**
 * The molds: one for the generation that serves, and during a renewal one for the next. Loads them, brings one back
 * that has died, and sees them out. Which generation is wanted is `server.ts`'s to say.
 */
import type { ExitStatus } from '../../process/contract.ts';
import type { Loop } from '../../process/loop.ts';
import { close } from '../../sys/index.ts';
import { channelPair } from '../channel.ts';
import type { ExitCause, PreforkEvents } from '../contract.ts';
import type { Plan } from '../plan.ts';
import { monotonic } from '../scoreboard.ts';
import { Backoff } from './backoff.ts';
import { causeOfError, classify, unexplained } from './cause.ts';
import { type Program, spawnChild } from './child.ts';
import type { Listeners } from './listeners.ts';
import { type Loaded, Mold } from './mold.ts';

export type MoldExit = PreforkEvents['mold-exit'][0];

export interface MoldsHandlers {
  /** A mold can fork from now on. */
  onReady(mold: Mold, loaded: Loaded): void;
  onExit(exit: MoldExit): void;
  /** There will be a mold of that generation again after `delay`. */
  onRetry(generation: number, cause: ExitCause, delay: number, failures: number): void;
}

/** Why a mold did not come to be. */
export class MoldError extends Error {
  override name = 'MoldError';
  readonly why: ExitCause;

  constructor(message: string, why: ExitCause) {
    super(message);
    this.why = why;
  }
}

/** Longer than after whoever was killed (`backoff.ts`). ms */
const A_WHILE = 800;

interface Kept {
  mold: Mold | undefined;
  readonly backoff: Backoff;
  retry: Disposable | undefined;
  /** Nobody should wait for it. */
  overdue: boolean;
  /** Of the first load. */
  settle: { resolve: (loaded: Loaded) => void; reject: (error: MoldError) => void } | undefined;
}

export class Molds {
  readonly #loop: Loop;
  readonly #plan: Plan;
  readonly #program: Program;
  readonly #listeners: Listeners;
  readonly #handlers: MoldsHandlers;
  /** By generation. */
  readonly #kept = new Map<number, Kept>();
  readonly #leaving = new Set<Mold>();

  constructor(loop: Loop, plan: Plan, program: Program, listeners: Listeners, handlers: MoldsHandlers) {
    this.#loop = loop;
    this.#plan = plan;
    this.#program = program;
    this.#listeners = listeners;
    this.#handlers = handlers;
  }

  /** No process of theirs is left. */
  get empty(): boolean {
    return this.#kept.size === 0 && this.#leaving.size === 0;
  }

  ready(generation: number): Mold | undefined {
    const mold = this.#kept.get(generation)?.mold;
    return mold?.state === 'ready' ? mold : undefined;
  }

  /**
   * Whether a worker that is to be forked should wait: one that starts by itself has the application to load as well, and
   * is not there before. There is no telling when a mold has ended that was to take the place of another, or when the next
   * one is a while off.
   */
  isWorthWaitingFor(generation: number): boolean {
    return this.#kept.get(generation)?.overdue !== true;
  }

  has(generation: number): boolean {
    return this.#kept.has(generation);
  }

  /** Loads the application anew; kept, and brought back when it dies, from then on. */
  load(generation: number): Promise<Loaded> {
    return this.#keep(generation, (kept) => this.#spawn(generation, kept));
  }

  /** Keeps a mold that a worker is forking of itself. `make` has to hand it over to whoever it belongs to. */
  adopt(generation: number, make: (theirs: number, mold: Mold) => void): Promise<Loaded> {
    return this.#keep(generation, (kept) => {
      const { mold, theirs } = this.#make(generation);
      kept.mold = mold;
      make(theirs, mold);
    });
  }

  /** The generation is not wanted any more. */
  release(generation: number): void {
    const kept = this.#kept.get(generation);
    if (kept === undefined) return;
    this.#kept.delete(generation);
    kept.retry?.[Symbol.dispose]();
    kept.settle?.reject(new MoldError('The mold is not wanted any more', 'drained'));
    if (kept.mold !== undefined && kept.mold.state !== 'ended') {
      this.#leaving.add(kept.mold);
      if (kept.mold.state === 'loading') kept.mold.kill('drained');
      else kept.mold.leave();
    }
  }

  releaseAll(): void {
    for (const generation of [...this.#kept.keys()]) this.release(generation);
  }

  /** At once. */
  killAll(): void {
    for (const mold of this.#leaving) mold.kill('drained');
  }

  #keep(generation: number, begin: (kept: Kept) => void): Promise<Loaded> {
    return new Promise((resolve, reject) => {
      const kept: Kept = {
        mold: undefined,
        backoff: new Backoff(),
        retry: undefined,
        overdue: false,
        settle: { resolve, reject },
      };
      this.#kept.set(generation, kept);
      try {
        begin(kept);
      } catch (error) {
        this.#kept.delete(generation);
        const { code, message } = error as NodeJS.ErrnoException;
        reject(new MoldError(message, causeOfError(code)));
      }
    });
  }

  #make(generation: number): { mold: Mold; theirs: number } {
    const [ours, theirs] = channelPair();
    const mold = new Mold(this.#loop, generation, ours, this.#plan.bootTimeout, {
      onLoaded: (_, loaded) => this.#loaded(mold, loaded),
      onEnd: (_, exit) => this.#ended(mold, exit),
    });
    return { mold, theirs };
  }

  #spawn(generation: number, kept: Kept): void {
    const { mold, theirs } = this.#make(generation);
    try {
      const { shared } = this.#listeners;
      mold.born(spawnChild(this.#loop, this.#program, theirs, shared, 'SIGKILL', (exit) => mold.ended(exit)));
    } catch (error) {
      mold.discard();
      throw error;
    } finally {
      close(theirs);
    }
    kept.mold = mold;
    const title = `forkbeard: mold gen ${generation} [${this.#plan.title}]`;
    mold.assign({ type: 'be-mold', plan: this.#plan, generation, title });
  }

  #loaded(mold: Mold, loaded: Loaded): void {
    const kept = this.#keptWith(mold);
    if (kept === undefined) return;
    const { settle } = kept;
    kept.settle = undefined;
    kept.overdue = false;
    this.#handlers.onReady(mold, loaded);
    settle?.resolve(loaded);
  }

  #ended(mold: Mold, exit: ExitStatus): void {
    this.#leaving.delete(mold);
    const cause = classify({
      exitCode: exit.exitCode,
      signal: exit.signal,
      killed: mold.killed,
      ready: mold.wasReady,
      leaving: !this.#kept.has(mold.generation),
      nearHeapLimit: false,
      oomKill: false,
    });
    const { failure } = mold;
    this.#handlers.onExit({
      pid: exit.pid,
      generation: mold.generation,
      cause,
      exitCode: exit.exitCode,
      signal: exit.signal,
      ...(failure === undefined ? {} : { message: failure.message }),
      ...(failure?.stack === undefined ? {} : { stack: failure.stack }),
    });
    const kept = this.#keptWith(mold);
    if (kept !== undefined) this.#lost(kept, mold, cause, exit);
  }

  /** One that never was ready is whoever asked for it to think about; another is brought back. */
  #lost(kept: Kept, mold: Mold, cause: ExitCause, exit: ExitStatus): void {
    const { generation, failure } = mold;
    kept.mold = undefined;
    if (kept.settle !== undefined) {
      this.#kept.delete(generation);
      const how = { cause, exitCode: exit.exitCode, signal: exit.signal, ready: false };
      const { bootTimeout } = this.#plan;
      const message =
        failure?.message ?? unexplained('The process that loads the application', how, bootTimeout);
      kept.settle.reject(new MoldError(message, cause));
      return;
    }
    if (mold.wasReady && monotonic() - mold.startedAt > this.#plan.bootTimeout) kept.backoff.reset();
    // Whoever was killed did nothing wrong, and a place may be waiting.
    if (cause === 'operator' && mold.paidOff) kept.backoff.reset();
    this.#retry(generation, kept, cause, mold.wasReady);
  }

  #retry(generation: number, kept: Kept, cause: ExitCause, loads: boolean): void {
    const delay = kept.backoff.failed(cause === 'operator' ? 'killed' : 'soon');
    kept.overdue = !loads || delay > A_WHILE;
    this.#handlers.onRetry(generation, cause, delay, kept.backoff.failures);
    kept.retry = this.#loop.watchTime({ after: delay }, () => {
      try {
        this.#spawn(generation, kept);
      } catch (error) {
        this.#retry(generation, kept, causeOfError((error as NodeJS.ErrnoException).code), false);
      }
    });
  }

  #keptWith(mold: Mold): Kept | undefined {
    const kept = this.#kept.get(mold.generation);
    return kept?.mold === mold ? kept : undefined;
  }
}
