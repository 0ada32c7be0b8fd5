/**
 * What loading an application starts in the process as a whole, beside the modules: listeners on `process` (uncaught
 * exceptions, signals, the end) and timers. A fork forgets both, since they are the parent's; those of the application
 * are meant for its workers, and come back there. The mold has them as well.
 */
import { restartTimers, waitingTimers } from '../../process/node-timers.ts';

interface Listening {
  event: string | symbol;
  listener: (...args: unknown[]) => void;
}

export class Traces {
  static readonly none = new Traces([], []);
  readonly #listening: readonly Listening[];
  readonly #timers: readonly object[];

  private constructor(listening: readonly Listening[], timers: readonly object[]) {
    this.#listening = listening;
    this.#timers = timers;
  }

  /** Runs `load` and finds what was added meanwhile. */
  static async of(load: () => Promise<void>): Promise<Traces> {
    const listeners = new Set(listening().map(({ listener }) => listener));
    const timers = new Set(waitingTimers());
    await load();
    return new Traces(
      listening().filter(({ listener }) => !listeners.has(listener)),
      waitingTimers().filter((timer) => !timers.has(timer)),
    );
  }

  /** In a process that was forked. Timers that the parent had cleared, or that had run, stay so. */
  comeBack(): void {
    for (const { event, listener } of this.#listening) process.on(event as never, listener as never);
    restartTimers(this.#timers);
  }
}

function listening(): Listening[] {
  // Node's own two, by which it learns of listeners for signals.
  const events = process
    .eventNames()
    .filter((event) => event !== 'newListener' && event !== 'removeListener');
  return events.flatMap((event) =>
    process.rawListeners(event as never).map((listener) => ({ event, listener: listener as never })),
  );
}
