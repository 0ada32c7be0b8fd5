/** Loop: the loop that users see. What the floor below does with descriptors and time, and on top of it processes. */
import { EventLoop } from '../loop/loop.ts';

/**
 * Errors thrown by callbacks never lose other work: the batch is finished, then the error surfaces, thrown from
 * `runOnce` and `runSync`, as an uncaught exception where Node's loop drives; several become one `AggregateError`.
 * Ticks and microtasks run between handlers in both modes, or between batches with `drain: 'batch'` (not when
 * `runSync` itself is called from within a promise reaction: V8 does not re-enter its queue). Each handler runs in the
 * async context of its registration. Any number of loops may exist, also in Workers.
 */
export class Loop extends EventLoop {
  static #current: Loop | undefined;

  /** This thread's one loop, made on first use; `new Loop()` never becomes it. A forked child gets a new one. */
  static current(): Loop {
    if (Loop.#current === undefined || !Loop.#current.alive) Loop.#current = new Loop();
    return Loop.#current;
  }
}
