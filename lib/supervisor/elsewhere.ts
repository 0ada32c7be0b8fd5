/**
 * A service that another supervisor runs: watched by its shim, which ends when nothing of the service is left, and by that
 * supervisor, where it is known: without it, what is coupled is being ended, and what is independent may be adopted. Nothing is ever sent to it. Made by a starter that finds the lock taken.
 */
import type { Watcher } from '../loop/contract.ts';
import type { Loop } from '../process/loop.ts';
import { match } from './identity.ts';
import type { ServiceRecord } from './state.ts';

export class Elsewhere {
  readonly record: ServiceRecord;
  readonly #watchers: readonly Watcher[];

  /** Null when it is not there any more. `supervisor`: its pid, if it is known. `onEnd` is called once, later. */
  static watch(
    loop: Loop,
    record: ServiceRecord,
    supervisor: number | null,
    onEnd: () => void,
  ): Elsewhere | null {
    const { shim, bootId } = record;
    const watchers: Watcher[] = [];
    const ended = () => {
      for (const watcher of watchers) watcher.stop();
      onEnd();
    };
    try {
      watchers.push(loop.watchProcess(shim.pid, ended));
      if (supervisor !== null && supervisor !== process.pid) {
        watchers.push(loop.watchProcess(supervisor, ended));
      }
      // Looked at once more: what is watched may be a later process of that number.
      if (match({ ...shim, bootId }) === 'same') return new Elsewhere(record, watchers);
    } catch {
      // It has ended meanwhile.
    }
    for (const watcher of watchers) watcher.stop();
    return null;
  }

  private constructor(record: ServiceRecord, watchers: readonly Watcher[]) {
    this.record = record;
    this.#watchers = watchers;
  }

  unref(): this {
    for (const watcher of this.#watchers) watcher.unref();
    return this;
  }

  stop(): void {
    for (const watcher of this.#watchers) watcher.stop();
  }
}
