/**
 * The timers and immediates that Node keeps for `setTimeout` and `setImmediate`, for a fork: whether any are queued,
 * and to silence all of them in the child. Node has no call for either, but its own functions close over the two lists,
 * and the inspector's protocol, spoken within this process, shows what a function closes over. Asked once; walking
 * through the heap for the objects would cost a garbage collection a fork.
 */
import { createRequire } from 'node:module';
import { clearImmediate, clearTimeout, setTimeout } from 'node:timers';

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

type Post = (method: string, params: object) => Record<string, unknown>;
interface Property {
  name: string;
  value?: { objectId?: string; description?: string };
}

const handOver: Record<string, unknown> = {};
const KEY = Symbol.for('forkbeard.node-timers');

function find(): Lists | null {
  try {
    const { Session } = createRequire(import.meta.url)('node:inspector') as typeof import('node:inspector');
    const session = new Session();
    session.connect();
    try {
      const post: Post = (method, params) => {
        let result: Record<string, unknown> = {};
        // Within one process the answer comes before the call returns.
        session.post(method as never, params as never, (error: Error | null, answer: unknown) => {
          if (error !== null) throw error;
          result = answer as Record<string, unknown>;
        });
        return result;
      };
      Object.defineProperty(globalThis, KEY, { value: handOver, configurable: true });
      handOver['setTimeout'] = setTimeout;
      handOver['clearImmediate'] = clearImmediate;
      const timers = closedOver(post, 'setTimeout', 'timerListMap') as Lists['timers'] | undefined;
      const immediates = closedOver(post, 'clearImmediate', 'immediateQueue') as ImmediateQueue | undefined;
      if (timers === undefined || immediates === undefined) return null;
      return looksRight(timers, immediates) ? { timers, immediates } : null;
    } finally {
      session.disconnect();
      delete (globalThis as Record<symbol, unknown>)[KEY];
    }
  } catch {
    // A Node without an inspector.
    return null;
  }
}

/** The value of a variable that the function `handOver[name]` closes over. */
function closedOver(post: Post, name: string, variable: string): unknown {
  const properties = (objectId: string | undefined, key: string) =>
    (objectId === undefined
      ? []
      : (post('Runtime.getProperties', { objectId, ownProperties: true })[key] ?? [])) as Property[];
  const expression = `globalThis[Symbol.for('${KEY.description}')].${name}`;
  const { result } = post('Runtime.evaluate', { expression }) as { result: { objectId?: string } };
  const scopes = properties(result.objectId, 'internalProperties').find(({ name }) => name === '[[Scopes]]');
  for (const scope of properties(scopes?.value?.objectId, 'result')) {
    // Looking at the global object would load what Node loads lazily.
    if (scope.value?.description === 'Global') continue;
    const found = properties(scope.value?.objectId, 'result').find(({ name }) => name === variable);
    if (found?.value?.objectId === undefined) continue;
    post('Runtime.callFunctionOn', {
      objectId: found.value.objectId,
      functionDeclaration: `function () { globalThis[Symbol.for('${KEY.description}')].found = this; }`,
    });
    return handOver['found'];
  }
  return undefined;
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
