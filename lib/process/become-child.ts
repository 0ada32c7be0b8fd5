/**
 * What JavaScript puts right in a forked child before anything of the user's runs there: everything that Node or the
 * parent's program set up for the parent and that would run, answer or repeat itself in the child. Native code
 * (`native/fork.cc`) has seen to threads, the event loop, handles and signals by then. Called once in each child.
 */
import { EventEmitter } from 'node:events';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { inspect } from 'node:util';
import { takeCoverage } from 'node:v8';
import { nativeLoop } from '../loop/native-loop.ts';
import { renewEntropy } from './entropy.ts';
import { nativeFork } from './native-fork.ts';
import { silenceNodeTimers } from './node-timers.ts';
import { complain, finishOutput, forgetOutput } from './output.ts';

const require = createRequire(import.meta.url);

const EXIT_UNSETTLED = 13;
const EXIT_THROWN = 255;
const UNSETTLED =
  'Warning: the promise that the code of fork() returned is not settled, and nothing can settle it\n';

/** Listeners of `process` that are Node's own. */
const NODES_OWN: Record<string, string> = {
  newListener: 'startListeningIfSignal',
  removeListener: 'stopListeningIfSignal',
  warning: 'onWarning',
};

/** Parts of `process` that its types do not tell. */
interface Internals {
  _events: Record<string | symbol, unknown>;
  _exiting?: boolean;
  _fatalException: (error: unknown, fromPromise: boolean) => boolean;
  reallyExit: (code?: number) => never;
  _tickCallback?: () => void;
  channel?: unknown;
}

const internals = process as unknown as Internals;

export interface Becoming {
  keepSignals: boolean;
  title: string | undefined;
}

export function becomeChild({ keepSignals, title }: Becoming): void {
  const pid = nativeLoop().processId();
  Object.defineProperty(process, 'pid', { value: pid, enumerable: true, configurable: true });
  takeOverTheEnd();
  forgetListeners(keepSignals);
  forgetChannel();
  forgetOutput();
  silenceNodeTimers();
  forgetConnections();
  renewEntropy();
  if (title !== undefined) process.title = title;
}

/** Runs the child's program; it never returns into the parent's. */
export function live(code: () => unknown): void {
  let result: unknown;
  let later: boolean;
  try {
    result = code();
    later = typeof (result as PromiseLike<unknown> | undefined)?.then === 'function';
  } catch (error) {
    endThrown(error);
  }
  if (!later) {
    endWith(result);
    return;
  }
  unsettled = true;
  (result as PromiseLike<unknown>).then(
    (value) => {
      unsettled = false;
      endWith(value);
    },
    (error) => endThrown(error),
  );
}

/** A child that forks where it stands runs its code and ends: nothing of the parent's stack comes back. */
export function liveSync(code: () => unknown): never {
  try {
    const result = code();
    if (typeof (result as PromiseLike<unknown> | undefined)?.then === 'function') {
      throw new TypeError('The code of forkSync returned a promise, and nothing runs in this child after it');
    }
    endWith(result);
  } catch (error) {
    endThrown(error);
  }
  return process.exit();
}

/** Tells on stderr what went wrong and ends, as after an exception of the child's code. */
export function endThrown(error: unknown): never {
  complain(`${typeof error === 'object' ? inspect(error) : `Uncaught ${inspect(error)}`}\n`);
  return process.exit(EXIT_THROWN);
}

function endWith(value: unknown): void {
  if (typeof value === 'number') process.exit(value & 0xff);
}

// ------------------------------------------------------------------------------------------- the end

/** The code's promise is not settled yet. */
let unsettled = false;
let ending = false;

/**
 * Node's own way out joins threads that do not exist here. All ways, `process.exit`, the natural end of the loop and an
 * uncaught exception, come through `process.emit('exit')`, `process.reallyExit` or `process._fatalException`.
 */
function takeOverTheEnd(): void {
  const emit = EventEmitter.prototype.emit;
  const fatal = internals._fatalException;
  let failing = false;
  process.exitCode = undefined as never;
  internals._exiting = false;
  ending = false;
  unsettled = false;

  internals.reallyExit = (code) => end(code ?? 0);
  // Not the one that is there: packages put themselves before it to hear of the parent's end.
  process.emit = function (this: unknown, event: string | symbol, ...args: unknown[]): boolean {
    if (event === 'beforeExit') return leaveUnlessBusy(args);
    if (event !== 'exit') return Reflect.apply(emit, process, [event, ...args]);
    // An uncaught exception is printed first, see below.
    if (failing || ending) return false;
    return leave(Number(args[0] ?? 0));
  } as typeof process.emit;

  internals._fatalException = (error, fromPromise) => {
    failing = true;
    let handled: boolean;
    try {
      handled = fatal.call(process, error, fromPromise);
    } catch (second) {
      complain(`${inspect(second)}\n`);
      process.exitCode = 7;
      handled = false;
    }
    failing = false;
    if (handled) return true;
    complain(`${inspect(error)}\n\nNode.js ${process.version}\n`);
    return leave(Number(process.exitCode ?? 1));
  };

  // A moment later Node would find that the parent's main module still awaits something, and complain and say 13.
  function leaveUnlessBusy(args: unknown[]): boolean {
    const heard: boolean = Reflect.apply(emit, process, ['beforeExit', ...args]);
    internals._tickCallback?.();
    if (nativeFork().hasWork()) return heard;
    if (!unsettled || process.exitCode !== undefined) return leave(0);
    complain(UNSETTLED);
    return leave(EXIT_UNSETTLED);
  }

  function leave(code: number): never {
    ending = true;
    internals._exiting = true;
    process.exitCode ??= code;
    try {
      Reflect.apply(emit, process, ['exit', process.exitCode]);
    } catch (error) {
      complain(`${inspect(error)}\n`);
      process.exitCode = 7;
    }
    return end(Number(process.exitCode));
  }
}

function end(code: number): never {
  finishOutput();
  if (process.env['NODE_V8_COVERAGE']) takeCoverage();
  return nativeFork().end(code & 0xff);
}

// ---------------------------------------------------------------------------------- the parent's things

function forgetListeners(keepSignals: boolean): void {
  // Removing a listener tells those of 'removeListener': the parent's go first, past them.
  for (const name of ['newListener', 'removeListener']) {
    const own = process.rawListeners(name as never).filter((listener) => listener.name === NODES_OWN[name]);
    if (own.length === 0) process.removeAllListeners(name);
    else internals._events[name] = own[0];
  }
  const kept = new Set<string | symbol>(keepSignals ? Object.keys(constants.signals) : []);
  for (const event of process.eventNames() as (string | symbol)[]) {
    if (kept.has(event)) continue;
    const own = NODES_OWN[event as string];
    // As a rule Node's own listener is the only one, and stands there by itself.
    if (own !== undefined && (internals._events[event] as { name?: string }).name === own) continue;
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
function forgetChannel(): void {
  if (process.send === undefined && internals.channel === undefined) return;
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

function forgetConnections(): void {
  for (const name of ['http', 'https']) {
    if (!isLoaded(name)) continue;
    const { globalAgent } = require(`node:${name}`) as { globalAgent: Agent };
    globalAgent.sockets = Object.create(null);
    globalAgent.freeSockets = Object.create(null);
    globalAgent.requests = Object.create(null);
    globalAgent.totalSocketCount = 0;
  }
  // What fetch sends through, once it was used; a program may have put in its own.
  const globals = globalThis as Record<symbol, unknown>;
  for (const symbol of Object.getOwnPropertySymbols(globalThis)) {
    if (!symbol.description?.startsWith('undici.globalDispatcher')) continue;
    const dispatcher = globals[symbol] as { constructor: { new (): object; name: string } } | undefined;
    if (dispatcher?.constructor.name === 'Agent') globals[symbol] = new dispatcher.constructor();
  }
}

/** Whether a module of Node's was loaded: if not, there is nothing of it to put right. */
function isLoaded(name: string): boolean {
  const { moduleLoadList } = process as unknown as { moduleLoadList: string[] };
  return moduleLoadList.includes(`NativeModule ${name}`);
}
