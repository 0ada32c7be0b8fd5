/**
 * What JavaScript puts right in a forked child before anything of the user's runs there: everything that Node or the
 * parent's program set up for the parent and that would run, answer or repeat itself in the child. Native code
 * (`native/fork.cc`) has seen to threads, the event loop, handles and signals by then. Called once in each child, and
 * rehearsed in the parent.
 */
import type { AsyncResource } from 'node:async_hooks';
import { EventEmitter } from 'node:events';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { nativeLoop } from '../loop/native-loop.ts';
import { now } from '../loop/time.ts';
import type { ForkContext } from './contract.ts';
import { type Randomness, randomness, renewEntropy } from './entropy.ts';
import { isLoaded } from './loaded.ts';
import type { Loop } from './loop.ts';
import { nativeFork } from './native-fork.ts';
import { type NodeTimers, nodeTimers, silenceNodeTimers } from './node-timers.ts';
import { forgetOutput } from './output.ts';
import { disownEnds, type PipeEnd, pipeEnds } from './pipe-end.ts';
import { endThrown, leadTheWayOut, live, type Self, takeOverTheEnd } from './way-out.ts';

const require = createRequire(import.meta.url);

/** How long V8 surely keeps what it has compiled, ms. */
const KEPT = 1000;
/** With the second time V8 begins to note where it finds what it looks for. */
const TIMES = 2;

/** Listeners of `process` that are Node's own. */
const NODES_OWN: Record<string, string> = {
  newListener: 'startListeningIfSignal',
  removeListener: 'stopListeningIfSignal',
  warning: 'onWarning',
};

/** What a child is to be. */
export interface Becoming {
  code(context: ForkContext): unknown;
  /** Of who asked for the child. */
  scope: Pick<AsyncResource, 'runInAsyncScope'>;
  /** The loop of this thread. */
  current(): Loop;
  keepSignals: boolean;
  /** All descriptors but those on a list are closed already. */
  listed: boolean;
  title: string | undefined;
}

type Run = (code: () => unknown, fail: (error: unknown) => never) => void;

/** What is put right, and who hears of it. A rehearsal has stand-ins for all of it. */
interface Surroundings {
  process: Self;
  leadTheWayOut(): void;
  timers: NodeTimers | null;
  randomness: Randomness;
  ends: Set<PipeEnd>;
  /** Modules of Node's that have an agent. */
  agents: readonly string[];
  globals: Record<symbol, unknown>;
  report(): void;
  fail(error: unknown): never;
}

/** Runs the child's code by `run`, in a process that is its own. */
export function becomeChild(becoming: Becoming, run: Run): void {
  begin(ours(), becoming, run);
}

function ours(): Surroundings {
  return {
    process: process as Self,
    leadTheWayOut: takeOverTheEnd,
    timers: nodeTimers(),
    randomness: randomness(),
    ends: pipeEnds,
    agents: ['http', 'https'],
    globals: globalThis as Record<symbol, unknown>,
    report: nativeFork().report,
    fail: endThrown,
  };
}

function begin(ours: Surroundings, becoming: Becoming, run: Run): void {
  const { code, scope, current } = becoming;
  let context: ForkContext;
  try {
    putRight(ours, becoming);
    context = contextOf(current);
    ours.report();
  } catch (error) {
    ours.fail(error);
  }
  run(() => scope.runInAsyncScope(code, undefined, context), ours.fail);
}

function putRight(ours: Surroundings, { keepSignals, listed, title }: Becoming): void {
  const { process } = ours;
  const pid = nativeLoop().processId();
  Object.defineProperty(process, 'pid', { value: pid, enumerable: true, configurable: true });
  ours.leadTheWayOut();
  forgetListeners(process, keepSignals);
  forgetChannel(process);
  forgetOutput(process);
  silenceNodeTimers(ours.timers);
  forgetConnections(ours);
  renewEntropy(ours.randomness);
  if (title !== undefined) process.title = title;
  // With a list, what it does not name is closed already, and what it names stays.
  disownEnds(ours.ends, !listed);
}

/** Its loop is made when it is asked for: many a child needs none. */
function contextOf(current: () => Loop): ForkContext {
  return {
    get loop() {
      return current();
    },
    pid: process.pid,
    parentPid: process.ppid,
  };
}

// -------------------------------------------------------------------------------------------- rehearsal

let rehearsed = Number.NEGATIVE_INFINITY;

/**
 * V8 compiles a function when it is called for the first time, and lets go of what was not called during some
 * collections. Each child would compile all of this file again, which took longer than all the rest between the fork and
 * its first line. So the parent does here what a child will do, with things that are nobody's.
 */
export function rehearse(): void {
  if (now() - rehearsed < KEPT) return;
  rehearsed = now();
  for (let i = 0; i < TIMES; i++) {
    const standIns = makeStandIns();
    begin(standIns, NOTHING, live);
    standIns.process.emit('exit', 0);
  }
}

const NOTHING: Becoming = {
  code: () => {},
  scope: { runInAsyncScope: (code, _, ...args) => code.apply(undefined as never, args) },
  current: () => undefined as never,
  keepSignals: false,
  listed: false,
  title: undefined,
};

const ignore = () => undefined as never;

function makeStandIns(): Surroundings {
  const process = Object.assign(new EventEmitter(), {
    stdout: {},
    stderr: {},
    _fatalException: () => true,
    hasUncaughtExceptionCaptureCallback: () => false,
  }) as unknown as Self;
  const { removeListener: name } = NODES_OWN;
  process.on(
    'removeListener',
    Object.defineProperty(() => {}, 'name', { value: name }),
  );
  process.on('exit', ignore);
  return {
    process,
    leadTheWayOut: () => leadTheWayOut(process, { exit: ignore, complain: ignore }),
    timers: { timers: {}, immediates: { head: null }, silenced: new WeakMap() },
    randomness: {
      stores: { uuids: new Uint8Array(16), integers: new Uint8Array(16) },
      random: () => Number.NaN,
      math: { random: () => Number.NaN },
    },
    ends: new Set(),
    agents: [],
    globals: {},
    report: ignore,
    fail: ignore,
  };
}

// ---------------------------------------------------------------------------------- the parent's things

function forgetListeners(process: Self, keepSignals: boolean): void {
  // Removing a listener tells those of 'removeListener': the parent's go first, past them.
  for (const name of ['newListener', 'removeListener']) {
    const own = process.rawListeners(name as never).filter((listener) => listener.name === NODES_OWN[name]);
    if (own.length === 0) process.removeAllListeners(name);
    else process._events[name] = own[0];
  }
  const kept = new Set<string | symbol>(keepSignals ? Object.keys(constants.signals) : []);
  for (const event of process.eventNames() as (string | symbol)[]) {
    if (kept.has(event)) continue;
    const own = NODES_OWN[event as string];
    // As a rule Node's own listener is the only one, and stands there by itself.
    if (own !== undefined && (process._events[event] as { name?: string }).name === own) continue;
    for (const listener of process.rawListeners(event as never)) {
      if (listener.name !== own) process.removeListener(event, listener as never);
    }
  }
  if (!process.hasUncaughtExceptionCaptureCallback()) return;
  try {
    process.setUncaughtExceptionCaptureCallback(null);
  } catch {
    // node:domain has one of its own.
  }
}

/** The channel that `child_process.fork` or a cluster gave the parent. */
function forgetChannel(process: Self): void {
  if (process.send === undefined && process.channel === undefined) return;
  for (const name of ['send', 'disconnect', 'channel', '_channel', '_disconnect', '_send']) {
    Reflect.deleteProperty(process, name);
  }
  process.connected = false;
  if (!isLoaded('cluster')) return;
  // A worker's listen() would ask its primary.
  const cluster = require('node:cluster') as { isWorker: boolean; isPrimary: boolean; isMaster: boolean };
  if (!cluster.isWorker) return;
  cluster.isWorker = false;
  cluster.isPrimary = true;
  cluster.isMaster = true;
}

interface Agent {
  sockets: object;
  freeSockets: object;
  requests: object;
  totalSocketCount: number;
}

function forgetConnections({ agents, globals }: Pick<Surroundings, 'agents' | 'globals'>): void {
  for (const name of agents) {
    if (!isLoaded(name)) continue;
    const { globalAgent } = require(`node:${name}`) as { globalAgent: Agent };
    globalAgent.sockets = Object.create(null);
    globalAgent.freeSockets = Object.create(null);
    globalAgent.requests = Object.create(null);
    globalAgent.totalSocketCount = 0;
  }
  // What fetch sends through, once it was used; a program may have put in its own.
  for (const symbol of Object.getOwnPropertySymbols(globals)) {
    if (!symbol.description?.startsWith('undici.globalDispatcher')) continue;
    const dispatcher = globals[symbol] as { constructor: { new (): object; name: string } } | undefined;
    if (dispatcher?.constructor.name === 'Agent') globals[symbol] = new dispatcher.constructor();
  }
}
