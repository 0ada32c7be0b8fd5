/**
 * The time that a supervisor goes by: monotonic, so that nobody who sets the clock starts or stops a service, and given
 * to whoever needs it, so that tests have one of their own. Everything in this folder that waits, waits here.
 */
import type { Loop } from '../process/loop.ts';

export interface Clock {
  /** ms; only differences mean something. */
  now(): number;
  /** Once. */
  after(ms: number, callback: () => void): Disposable;
}

export function clockOf(loop: Loop): Clock {
  return {
    now: () => loop.now(),
    after: (ms, callback) => loop.watchTime({ after: ms }, callback),
  };
}
