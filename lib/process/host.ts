/** What the rooms of this floor need of the loop that they work for. */
import type { TimeWatcher } from '../loop/contract.ts';
import type { IoHost } from '../loop/io.ts';
import type { Handle } from '../loop/native-loop.ts';

export interface ProcessHost extends IoHost {
  /** The native half of the loop. */
  readonly handle: Handle;
  /** Throws when the loop is closed, or the parent's; else it is driven by Node's event loop from now on. */
  ready(): void;
  /** Calls back when the descriptor is readable, from the loop's batch: not a user's callback, must not throw. */
  watchInternally(fd: number, onReady: () => void): Disposable;
  watchTime(when: { after: number }, callback: () => void): TimeWatcher;
}
