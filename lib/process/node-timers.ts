/**
 * The timers and immediates that Node keeps for `setTimeout` and `setImmediate`, for a fork: whether any are queued,
 * and to silence all of them in the child. Node has no call for either, but its own functions close over the two lists.
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
}
interface ImmediateQueue {
  head: Link | null;
}

interface Lists {
  timers: Record<string, Link>;
  immediates: ImmediateQueue;
}

let lists: Lists | null | undefined;

/** Whether Node lets us at its timers; to be asked in the parent, where there is time. */
export function knowsNodeTimers(): boolean {
  lists ??= find();
  return lists !== null;
}

export function hasImmediates(): boolean {
  return lists?.immediates.head != null;
}

/** In a forked child: none of those that are queued runs. */
export function silenceNodeTimers(): void {
  if (lists == null) return;
  for (const immediate of chain(lists.immediates.head, null)) clearImmediate(immediate as never);
  for (const list of Object.values(lists.timers)) {
    for (const timer of chain(list._idleNext, list) as Timer[]) {
      const callback = timer._onTimeout;
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
    }
  }
}

function chain(first: Link | null, end: Link | null): Link[] {
  const links: Link[] = [];
  for (let link = first; link !== end && link !== null; link = link._idleNext) links.push(link);
  return links;
}

// --------------------------------------------------------------------------------- how they are found

function find(): Lists | null {
  const found = closedOver([
    { by: setTimeout, name: 'timerListMap' },
    { by: clearImmediate, name: 'immediateQueue' },
  ]);
  const timers = found[0] as Lists['timers'] | undefined;
  const immediates = found[1] as ImmediateQueue | undefined;
  if (timers === undefined || immediates === undefined) return null;
  return looksRight(timers, immediates) ? { timers, immediates } : null;
}

/** A timer and an immediate of our own must appear where we look. */
function looksRight(timers: Lists['timers'], immediates: ImmediateQueue): boolean {
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
