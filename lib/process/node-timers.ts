/**
 * The timers and immediates that Node keeps for `setTimeout` and `setImmediate`, for a fork: whether any are queued,
 * to silence all of them in the child, and to start there anew what the child is to have. Node has no call for either, but its own functions close over the two lists.
 * They are found once; walking through the heap for the objects would cost a garbage collection a fork.
 */
import { clearImmediate, clearTimeout, setTimeout } from 'node:timers';
import { closedOver } from './closed-over.ts';

interface Link {
  _idleNext: Link | null;
}
interface Timer extends Link {
  _onTimeout: ((...args: unknown[]) => void) | null;
  _destroyed: boolean;
  /** ms */
  _idleTimeout: number;
  refresh(): void;
}
interface ImmediateQueue {
  head: Link | null;
}

export interface NodeTimers {
  timers: Record<string, Link>;
  immediates: ImmediateQueue;
  /** Those that the last fork has silenced in this process, and how long they were to wait. */
  silenced: WeakMap<Timer, number>;
}

let lists: NodeTimers | null | undefined;

/** Whether Node lets us at its timers; to be asked in the parent, where there is time. */
export function knowsNodeTimers(): boolean {
  lists ??= find();
  return lists !== null;
}

/** null: Node does not let us. */
export function nodeTimers(): NodeTimers | null {
  return lists ?? null;
}

export function hasImmediates(): boolean {
  return lists?.immediates.head != null;
}

/** Timers that wait, of whoever. */
export function waitingTimers(): object[] {
  if (lists == null) return [];
  return Object.values(lists.timers).flatMap((list) => chain(list._idleNext, list));
}

/** In a forked child: those of them that waited in the parent at the fork wait anew, for the whole of their time. */
export function restartTimers(timers: readonly object[]): void {
  for (const timer of timers as Timer[]) {
    const delay = lists?.silenced.get(timer);
    if (delay === undefined) continue;
    lists?.silenced.delete(timer);
    timer._idleTimeout = delay;
    // One that is not destroyed would be taken for one that is counted.
    timer._destroyed = true;
    timer.refresh();
  }
}

/** In a forked child: none of those that are queued runs. */
export function silenceNodeTimers(lists: NodeTimers | null): void {
  if (lists === null) return;
  lists.silenced = new WeakMap();
  for (const immediate of chain(lists.immediates.head, null)) clearImmediate(immediate as never);
  for (const list of Object.values(lists.timers)) {
    for (const timer of chain(list._idleNext, list) as Timer[]) {
      const { _onTimeout: callback, _idleTimeout: delay } = timer;
      clearTimeout(timer as never);
      if (callback === null) continue;
      // node:http formats the Date header once a second and forgets it by a timer.
      if (callback.name === 'resetCache') {
        callback();
        continue;
      }
      // As it was before it was started, so that code which keeps one timer and calls refresh() is not surprised.
      timer._onTimeout = callback;
      timer._destroyed = false;
      lists.silenced.set(timer, delay);
    }
  }
}

function chain(first: Link | null, end: Link | null): Link[] {
  const links: Link[] = [];
  for (let link = first; link !== end && link !== null; link = link._idleNext) links.push(link);
  return links;
}

// --------------------------------------------------------------------------------- how they are found

function find(): NodeTimers | null {
  const found = closedOver([
    { by: setTimeout, name: 'timerListMap' },
    { by: clearImmediate, name: 'immediateQueue' },
  ]);
  const timers = found[0] as NodeTimers['timers'] | undefined;
  const immediates = found[1] as ImmediateQueue | undefined;
  if (timers === undefined || immediates === undefined) return null;
  return looksRight(timers, immediates) ? { timers, immediates, silenced: new WeakMap() } : null;
}

/** A timer and an immediate of our own must appear where we look. */
function looksRight(timers: NodeTimers['timers'], immediates: ImmediateQueue): boolean {
  const milliseconds = 2 ** 30 - 1;
  const timer = setTimeout(() => {}, milliseconds);
  const list = timers[milliseconds];
  const inTimers = list !== undefined && chain(list._idleNext, list).includes(timer as unknown as Link);
  clearTimeout(timer);
  const immediate = setImmediate(() => {});
  const inImmediates = chain(immediates.head, null).includes(immediate as unknown as Link);
  clearImmediate(immediate);
  return inTimers && inImmediates;
}
