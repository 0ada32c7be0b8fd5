/**
 * What all watchers are made of: they are active until stopped, they keep the process alive unless unref'ed, and
 * their callbacks run in the async context of the registration, being async resources themselves. The floors above
 * derive their own from it.
 */
import { AsyncResource, executionAsyncId } from 'node:async_hooks';
import type { Watcher } from './contract.ts';

/** A loop's book of who is active and who keeps the process alive. */
export interface Keeper {
  /** One more or one less active watcher; `refs` likewise for those that keep the process alive. */
  count(actives: number, refs: number): void;
}

/** What watchers' rooms need of their loop: the book, and somebody who calls. */
export interface Host extends Keeper {
  /** Runs a callback in the async context of its watcher, with errors set aside. */
  invoke<A>(watcher: WatcherBase, callback: (a: A) => void, a: A): void;
}

// Without `requireManualDestroy` every watcher would cost the garbage collector a weak reference, and without a trigger id
// that is a small integer (Node's own reading of it never is one) an object more.
const RESOURCE = { requireManualDestroy: true, triggerAsyncId: 0 };
const SMALL_INTEGERS = 2 ** 31;

// One number, not three fields: a program may have a million timers, and the garbage collector moves each of them.
const ACTIVE = 1;
const REF = 2;
/** It is counted among those that keep the process alive. */
const KEEPS = 4;

export abstract class WatcherBase<K extends Keeper = Keeper> extends AsyncResource implements Watcher {
  readonly #keeper: K;
  #state = ACTIVE | REF;

  constructor(type: string, keeper: K) {
    const trigger = executionAsyncId();
    RESOURCE.triggerAsyncId = trigger < SMALL_INTEGERS ? trigger | 0 : trigger;
    super(type, RESOURCE);
    this.#keeper = keeper;
  }

  get active(): boolean {
    return (this.#state & ACTIVE) !== 0;
  }

  stop(): void {
    if ((this.#state & ACTIVE) === 0) return;
    this.retire();
    this.onStop();
    this.emitDestroy();
  }

  ref(): this {
    this.#state |= REF;
    this.settle();
    return this;
  }

  unref(): this {
    this.#state &= ~REF;
    this.settle();
    return this;
  }

  hasRef(): boolean {
    return (this.#state & REF) !== 0;
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  /** Whose book it is in. */
  protected get keeper(): K {
    return this.#keeper;
  }

  /** To be called by every constructor at its end: from now on it counts. */
  protected enlist(): void {
    const keeps = this.armed;
    if (keeps) this.#state |= KEEPS;
    this.#keeper.count(1, keeps ? 1 : 0);
  }

  /** Takes it off the books: stopped, or about to do what it does only once. */
  retire(): void {
    const state = this.#state;
    if ((state & ACTIVE) === 0) return;
    this.#state = state & REF;
    this.#keeper.count(-1, (state & KEEPS) !== 0 ? -1 : 0);
  }

  /** To be called when `armed` may have changed. */
  settle(): void {
    const state = this.#state;
    const keeps = (state & ACTIVE) !== 0 && (state & REF) !== 0 && this.armed;
    if (keeps === ((state & KEEPS) !== 0)) return;
    this.#state = keeps ? state | KEEPS : state & ~KEEPS;
    this.#keeper.count(0, keeps ? 1 : -1);
  }

  /** False for a watcher that is active but can get no event (disarmed): it keeps nobody alive. */
  protected get armed(): boolean {
    return true;
  }

  /** What is left to do when it was stopped: leave the loop's tables. */
  protected abstract onStop(): void;
}
