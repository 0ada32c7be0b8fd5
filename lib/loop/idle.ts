/**
 * The idle work of a loop: callbacks that run once, at the end of a round. Used by the loop, which calls `run` in every
 * round; calls nothing itself, the loop's `invoke` does.
 */
import { type Host, WatcherBase } from './watcher.ts';

class IdleWatch extends WatcherBase {
  readonly callback: () => void;
  constructor(host: Host, callback: () => void) {
    super('FORKBEARD_IDLE', host);
    this.callback = callback;
    this.enlist();
  }
  protected override onStop(): void {
    // The queue skips what is not active.
  }
}

export class IdleQueue {
  readonly #host: Host;
  #next: IdleWatch[] = [];
  // The batch that is being run. A round inside one of its callbacks goes on with it.
  #batch: IdleWatch[] = [];
  #cursor = 0;

  constructor(host: Host) {
    this.#host = host;
  }

  get pending(): boolean {
    return this.#next.length > 0 || this.#cursor < this.#batch.length;
  }

  add(callback: () => void): WatcherBase {
    const watcher = new IdleWatch(this.#host, callback);
    this.#next.push(watcher);
    return watcher;
  }

  /** Runs what was there when it began, and not what is added meanwhile. */
  run(): void {
    if (this.#batch.length === 0) {
      if (this.#next.length === 0) return;
      this.#batch = this.#next;
      this.#next = [];
    }
    while (this.#cursor < this.#batch.length) {
      const watcher = this.#batch[this.#cursor++] as IdleWatch;
      if (!watcher.active) continue;
      watcher.retire();
      this.#host.invoke(watcher, watcher.callback, undefined);
      watcher.emitDestroy();
    }
    this.#batch = [];
    this.#cursor = 0;
  }

  stopAll(): void {
    for (const watcher of [...this.#next, ...this.#batch]) watcher.stop();
  }
}
