/**
 * What all watchers are made of: they are active until stopped, they keep the process alive unless unref'ed, and
 * their callbacks run in the async context of the registration. The floors above derive their own from it.
 */
import { AsyncResource } from 'node:async_hooks';
import type { Watcher } from './contract.ts';

/** A loop's book of who is active and who keeps the process alive. */
export interface Keeper {
  /** One more or one less active watcher; `refs` likewise for those that keep the process alive. */
  count(actives: number, refs: number): void;
}

const MANUAL = { requireManualDestroy: true };

export abstract class WatcherBase implements Watcher {
  /** The async context that the callbacks run in. */
  readonly scope: AsyncResource;
  readonly #keeper: Keeper;
  #active = true;
  #ref = true;
  #keeps = false;

  constructor(type: string, keeper: Keeper) {
    // Without the option every watcher would cost the garbage collector a weak reference.
    this.scope = new AsyncResource(type, MANUAL);
    this.#keeper = keeper;
    keeper.count(1, 0);
  }

  get active(): boolean {
    return this.#active;
  }

  stop(): void {
    if (!this.#active) return;
    this.retire();
    this.onStop();
    this.scope.emitDestroy();
  }

  ref(): this {
    this.#ref = true;
    this.settle();
    return this;
  }

  unref(): this {
    this.#ref = false;
    this.settle();
    return this;
  }

  hasRef(): boolean {
    return this.#ref;
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  /** Takes it off the books: stopped, or about to do what it does only once. */
  retire(): void {
    if (!this.#active) return;
    this.#active = false;
    this.#keeper.count(-1, 0);
    this.settle();
  }

  /** To be called by every constructor at its end, and when `armed` may have changed. */
  settle(): void {
    const keeps = this.#active && this.#ref && this.armed;
    if (keeps === this.#keeps) return;
    this.#keeps = keeps;
    this.#keeper.count(0, keeps ? 1 : -1);
  }

  /** False for a watcher that is active but can get no event (disarmed): it keeps nobody alive. */
  protected get armed(): boolean {
    return true;
  }

  /** What is left to do when it was stopped: leave the loop's tables. */
  protected abstract onStop(): void;
}
