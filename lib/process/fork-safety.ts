/**
 * What stands against a fork at this moment: threads that would be missing in the child, work that would never end
 * there, and what is merely worth knowing. `fork` refuses by it, `forkSafety()` and the doctor show it.
 */
import { subscribe } from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import { createRequire, register } from 'node:module';
import { availableParallelism } from 'node:os';
import { isMainThread } from 'node:worker_threads';
import { stateError } from '../sys/errors.ts';
import { closedOver } from './closed-over.ts';
import type { ForkHazard, ForkSafety } from './contract.ts';
import { knowEntropyStores } from './entropy.ts';
import { nativeFork, v8State, whyUnsupported } from './native-fork.ts';
import { knowsNodeTimers } from './node-timers.ts';

const require = createRequire(import.meta.url);

const TIMERS = new Set(['Timeout', 'Immediate']);
/** Names that `getActiveResourcesInfo` has for requests in libuv's pool, and for those that wait for the network. */
const POOL_REQUEST = /^(FSReq|GetAddrInfo|GetNameInfo|CloseReq)/;
const NETWORK_REQUEST = /(ConnectWrap|WriteWrap|ShutdownWrap|SendWrap)$/;
/** A file that is being closed, as after each module that Node loads: waited for, and nothing to refuse a fork for. */
const PASSING = 'CloseReq';

// Workers that were started since we came; earlier ones are threads without a name.
const workers = new Set<WeakRef<{ threadId: number }>>();
if (isMainThread) {
  subscribe('worker_threads', (message) => {
    workers.add(new WeakRef((message as { worker: { threadId: number } }).worker));
  });
}

export function forkSafety(): ForkSafety {
  if (!isMainThread) {
    const message = 'Only the main thread can fork: ask it to, by a message';
    return {
      method: 'spawn',
      v8: 'unsupported',
      hazards: [{ code: 'NOT_MAIN_THREAD', message, blocking: true }],
    };
  }
  const v8 = v8State();
  const hazards = look([...MAY_BLOCK, ...NEVER_BLOCKS]);
  return { method: hazards.some(({ blocking }) => blocking) ? 'spawn' : 'fork', v8, hazards };
}

/** Throws, warns or does nothing about what `forkSafety` finds. */
export function enforce(safety: 'strict' | 'warn' | 'off'): void {
  // Also makes forks possible, so it is asked in any case.
  const state = v8State();
  // To be found now, while there is time.
  knowsNodeTimers();
  knowEntropyStores();
  if (state === 'unsupported') {
    throw unsafeError(blockingHazards());
  }
  if (safety === 'off') return;
  const blocking = blockingHazards();
  if (blocking.length === 0) return;
  const error = unsafeError(blocking);
  if (safety === 'strict') throw error;
  process.emitWarning(error.message, { code: 'FORKBEARD_FORK_UNSAFE' });
}

/** Nothing is under way in libuv's pool. Cheap when there is nothing at all. */
export function poolRests(): boolean {
  return nativeFork().requests() === 0 || poolRequests(process.getActiveResourcesInfo()).length === 0;
}

function unsafeError(hazards: ForkHazard[]): Error {
  const list = hazards.map(({ code, message }) => `${code}: ${message}`).join('; ');
  return Object.assign(stateError('FORK_UNSAFE', `A fork would not be safe now. ${list}`), { hazards });
}

// ----------------------------------------------------------------------------------------- the hazards

/** What is there at this moment. */
interface Sight {
  /** What `getActiveResourcesInfo` says. */
  resources: string[];
  /** Number and name. */
  threads: [number, string][];
  /** Living Workers that we know of. */
  workers: number;
}

/** Looks for one of them. */
type Look = (sight: Sight) => ForkHazard | undefined;

const hazard = (blocking: boolean, code: string, message: string): ForkHazard => ({
  code,
  message,
  blocking,
});

/** What a fork asks for each time, so it is quick about it. */
const MAY_BLOCK: Look[] = [
  () =>
    v8State() === 'unsupported'
      ? hazard(
          true,
          'V8_UNSUPPORTED',
          `A child would have no working V8: ${whyUnsupported()}. Use spawn() instead`,
        )
      : undefined,
  ({ workers }) => {
    return workers > 0
      ? hazard(
          true,
          'WORKER_THREADS',
          `${workers} worker thread(s) would be missing in the child: end them before, or start them after the fork`,
        )
      : undefined;
  },
  (sight) =>
    hasHooksThread(sight)
      ? hazard(
          true,
          'MODULE_HOOKS',
          'The thread of module hooks (module.register, --loader), or a Worker that is older than forkbeard, would be missing in the child, which would wait for the hooks at its next import: use module.registerHooks, whose hooks need no thread, and start Workers after the fork',
        )
      : undefined,
  () =>
    inspectorIsOn()
      ? hazard(
          true,
          'INSPECTOR',
          'The inspector is on, and its thread would be missing in the child: fork without --inspect, or call inspector.close() before',
        )
      : undefined,
  ({ resources }) => {
    const requests = count(poolRequests(resources).filter((name) => name !== PASSING));
    return requests.total > 0
      ? hazard(
          true,
          'UV_REQUESTS',
          `Requests in libuv's thread pool would never end in the child: ${requests.text}. Wait for them before you fork`,
        )
      : undefined;
  },
  ({ resources }) => {
    const timers = count(resources.filter((name) => TIMERS.has(name)));
    if (timers.total === 0) return undefined;
    return knowsNodeTimers()
      ? hazard(
          false,
          'TIMERS',
          `Timers and immediates of this process do not run in the child: ${timers.text}. Start what the child needs there`,
        )
      : hazard(
          true,
          'TIMERS',
          `Timers and immediates of this process would run in the child: ${timers.text}. This Node has no inspector, by which they could be found: clear them before`,
        );
  },
  (sight) => {
    const threads = unknownThreads(sight);
    if (threads.length === 0) return undefined;
    const text = threads.map(({ name, state }) => `${name} (${STATES[state] ?? state})`).join(', ');
    return hazard(
      threads.some(({ state }) => state !== 'S' && state !== 'I'),
      'UNKNOWN_THREADS',
      `Native threads of other addons would be missing in the child, with any lock that they hold: ${text}. Fork before what starts them is used, or end them`,
    );
  },
];

const NEVER_BLOCKS: Look[] = [
  ({ resources }) => {
    const handles = openHandles(resources);
    return handles !== ''
      ? hazard(
          false,
          'HANDLES',
          `Handles of this process are cut off in the child: ${handles}. Name the descriptors that the child shall have in "inherit"`,
        )
      : undefined;
  },
  () =>
    process.connected
      ? hazard(
          false,
          'IPC_CHANNEL',
          'The channel to the process that started this one stays here: process.send does not exist in the child',
        )
      : undefined,
  () =>
    read('/sys/kernel/mm/transparent_hugepage/enabled').includes('[always]')
      ? hazard(
          false,
          'TRANSPARENT_HUGE_PAGES',
          'Transparent huge pages are always on: the first write to a page copies 2 MB of it. Set /sys/kernel/mm/transparent_hugepage/enabled to madvise',
        )
      : undefined,
];

function look(looks: Look[]): ForkHazard[] {
  const sight = {
    resources: process.getActiveResourcesInfo(),
    threads: nativeFork().threads(),
    workers: livingWorkers(),
  };
  return looks.map((one) => one(sight)).filter((found) => found !== undefined);
}

function blockingHazards(): ForkHazard[] {
  return look(MAY_BLOCK).filter(({ blocking }) => blocking);
}

// ------------------------------------------------------------------------------------------ looking

/** What libuv's threads work on. Node names files and names; of crypto, zlib and addons there is only the number. */
function poolRequests(resources: string[]): string[] {
  const all = nativeFork().requests();
  // Node still names the one whose callback is running, and libuv is through with it.
  const named = resources.filter((name) => POOL_REQUEST.test(name)).slice(0, all);
  const others = resources.filter((name) => NETWORK_REQUEST.test(name)).length;
  const nameless = Math.max(0, all - named.length - others);
  return [...named, ...Array.from({ length: nameless }, () => 'a job of crypto, zlib or an addon')];
}

/** What a child does not have of it, by name. */
export function openHandles(resources = process.getActiveResourcesInfo()): string {
  const handles = resources.filter(
    (name) => !TIMERS.has(name) && !POOL_REQUEST.test(name) && !/^(TTY|Signal)/.test(name),
  );
  return count(without(standardStreams(), handles)).text;
}

/** Names in `getActiveResourcesInfo` of what Node made of descriptors 0 to 2: pipes and sockets. Those stay a child's own. */
function standardStreams(): string[] {
  type Active = { _handle?: { fd?: number; constructor: { name: string } } };
  const { _getActiveHandles } = process as unknown as { _getActiveHandles?: () => Active[] };
  return (_getActiveHandles?.call(process) ?? []).flatMap(({ _handle: handle }) => {
    if (handle?.fd === undefined || handle.fd < 0 || handle.fd > 2) return [];
    return handle.constructor.name === 'TCP' ? 'TCPSocketWrap' : `${handle.constructor.name}Wrap`;
  });
}

/** `names`, less one for each of `others`. */
function without(others: string[], names: string[]): string[] {
  const left = [...names];
  for (const other of others) {
    const at = left.indexOf(other);
    if (at >= 0) left.splice(at, 1);
  }
  return left;
}

function count(names: string[]): { total: number; text: string } {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  const text = [...counts].map(([name, times]) => (times === 1 ? name : `${times} × ${name}`)).join(', ');
  return { total: names.length, text };
}

function livingWorkers(): number {
  let living = 0;
  for (const reference of workers) {
    const worker = reference.deref();
    if (worker === undefined || worker.threadId === -1) workers.delete(reference);
    else living++;
  }
  return living;
}

/** What Node 24 and later call the thread of a Worker that has no name of its own, as that of their hooks. */
const WORKER_THREAD = 'WorkerThread';

let lookedAt = '';
let hooksFound = false;

/** Whether Node has a Worker of its own for module hooks. */
function hasHooksThread({ threads, workers }: Sight): boolean {
  const numbers = threads.map(([number]) => number).join();
  if (numbers !== lookedAt) {
    lookedAt = numbers;
    // Of Node 20 and 22.
    hooksFound = closedOver([{ by: register as () => void, name: 'hooksProxy' }])[0] !== undefined;
  }
  return hooksFound || threads.filter(([, name]) => name === WORKER_THREAD).length > workers;
}

function inspectorIsOn(): boolean {
  try {
    return (require('node:inspector') as typeof import('node:inspector')).url() !== undefined;
  } catch {
    return false;
  }
}

interface Thread {
  name: string;
  state: string;
}

const STATES: Record<string, string> = { R: 'running', S: 'sleeping', D: 'in a system call', T: 'stopped' };
/** Threads of Node's and ours, where they have names; glibc's and the kernel's limit is 15 letters. */
const KNOWN = /^(node-?|Main|V8|Delayed|SignalInspector|Inspector|Worker|libuv-worker|forkbeard)/;
/** Node's signal thread of the inspector, and the thread that keeps the time of V8's delayed tasks. */
const NODES_OTHERS = 2;

/** Native threads that neither Node nor we have started, as far as names and numbers tell. */
function unknownThreads({ threads, workers }: Sight): Thread[] {
  const unknown: Thread[] = [];
  const main = threads.find(([id]) => id === process.pid)?.[1];
  let nameless = 0;
  for (const [id, name] of threads) {
    if (id === process.pid) continue;
    // Without a name of its own a thread has that of whoever started it.
    if (name === main) nameless++;
    else if (!KNOWN.test(name)) unknown.push({ name, state: stateOf(id) });
  }
  const pool = Number(process.env['UV_THREADPOOL_SIZE'] ?? 4) || 4;
  const v8 = Math.max(4, availableParallelism());
  // Worker threads have the names that their makers gave them, and are told of already.
  unknown.splice(0, workers);
  // Ours have no name in their first moments.
  const expected = pool + 2 * v8 + NODES_OTHERS + 2 * workers;
  if (nameless > expected) {
    // Which of them are too many is not to be known, so neither is what they do.
    unknown.push({ name: `${nameless - expected} without a name`, state: 'S' });
  }
  return unknown;
}

function stateOf(thread: number): string {
  // "pid (name) state …", and a name may have anything in it.
  const stat = read(`/proc/self/task/${thread}/stat`);
  return stat.charAt(stat.lastIndexOf(')') + 2);
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
