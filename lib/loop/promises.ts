/**
 * The promises of `later` and `delay`: fulfilled by a watcher, rejected when their signal aborts or their loop is
 * closed. Used by the loop.
 */
import { abortError } from '../sys/errors.ts';
import type { Watcher } from './contract.ts';

export class OpenPromises {
  readonly #fail = new Set<(error: Error) => void>();

  /** A promise for what `start` calls. */
  make(start: (done: () => void) => Watcher, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(abortError(signal));
        return;
      }
      const settle = (action: () => void) => {
        this.#fail.delete(fail);
        signal?.removeEventListener('abort', abort);
        action();
      };
      const watcher = start(() => settle(resolve));
      const fail = (error: Error) => settle(() => reject(error));
      const abort = () => {
        watcher.stop();
        fail(abortError(signal as AbortSignal));
      };
      this.#fail.add(fail);
      signal?.addEventListener('abort', abort);
    });
  }

  /** Rejects all that are still open. */
  rejectAll(error: () => Error): void {
    for (const fail of [...this.#fail]) fail(error());
  }
}
