/**
 * A service that another supervisor runs: watched by its shim, which ends when nothing of the service is left. Nothing is
 * ever sent to it. Made by a starter that finds the lock taken.
 */
import type { Watcher } from '../loop/contract.ts';
import type { Loop } from '../process/loop.ts';
import { match } from './identity.ts';
import type { ServiceRecord } from './state.ts';

export class Elsewhere {
  readonly record: ServiceRecord;
  readonly #watcher: Watcher;

  /** Null when it is not there any more. `onEnd` is called once, later. */
  static watch(loop: Loop, record: ServiceRecord, onEnd: () => void): Elsewhere | null {
    const { shim, bootId } = record;
    let watcher: Watcher;
    try {
      watcher = loop.watchProcess(shim.pid, onEnd);
    } catch {
      return null;
    }
    // Looked at once more: what is watched may be a later process of that number.
    if (match({ ...shim, bootId }) !== 'same') {
      watcher.stop();
      return null;
    }
    return new Elsewhere(record, watcher);
  }

  private constructor(record: ServiceRecord, watcher: Watcher) {
    this.record = record;
    this.#watcher = watcher;
  }

  stop(): void {
    this.#watcher.stop();
  }
}
