/**
 * The lifeline of a process that works for another one: a small native thread that goes on when JavaScript does not come
 * back. When the other end of a descriptor is gone it ends the process, and in memory shared with a watcher it answers
 * what JavaScript is doing. One a process; a forked child has none until it starts its own.
 *
 * What can be interrupted for its stack: loops, calls, regular expressions, `Atomics.wait`. What cannot, because V8 does
 * not look up in it: JSON, long built-ins of strings and arrays (`replaceAll`, `sort` without a comparator), synchronous
 * calls of node:crypto, node:zlib, node:fs and node:child_process, and other native code. The request is answered when
 * that returns; the end of the other end is acted upon at any time.
 */
import { isMainThread } from 'node:worker_threads';
import { addon } from '../native.ts';
import { EALREADY, ENOTSUP } from '../sys/errno.ts';
import {
  checkFd,
  checkInteger,
  checkKeys,
  checkObject,
  invalidType,
  invalidValue,
  mainThreadOnly,
  outOfRange,
  stateError,
  systemError,
} from '../sys/errors.ts';
import { interruptHooks } from './native-fork.ts';

const MAX_OFFSET = 0x7fff_ffff;
/** Length, and room for at least as much. */
const LEAST_STACK = 8;
/** Of the self-test: V8 looks up once in each round of a loop. */
const PROBE_ROUNDS = 10_000;

/**
 * States of the request word. A watcher writes ASKED. INTERRUPTING: V8 has been asked, and as long as it stays so,
 * JavaScript is in something that cannot be interrupted. ANSWERED: the stack is there, to be read and asked for anew.
 */
export const StackRequest = { NONE: 0, ASKED: 1, INTERRUPTING: 2, ANSWERED: 3 } as const;

export interface LifelineOptions {
  /** An end of a pipe or socket whose other end is somebody else's. What comes from there is left for others to read. */
  fd: number;
  /** From the end of the other end to the end of this process, ms. JavaScript that sees it as well can leave before. */
  grace: number;
  /** What the process ends with then: no exit listener runs, nothing is flushed. */
  code: number;
  memory?: LifelineMemory;
}

/** Memory of `sharedMemory`. It is mapped for the thread itself; `fd` may be closed afterwards. Offsets are bytes. */
export interface LifelineMemory {
  fd: number;
  bytes: number;
  /** A Float64 of `StackRequest`, looked at ten times a second. */
  request?: number;
  /** Where the JavaScript stack goes: 4 bytes of length, then UTF-8, cut where `size` ends. */
  stack?: { at: number; size: number };
  /**
   * A Float64 that becomes 1 when V8's heap is about to reach its limit, which ends the process a moment later. It does
   * not where Node is to write heap snapshots then (--heapsnapshot-near-heap-limit).
   */
  nearHeapLimit?: number;
}

interface NativeLifeline {
  start(
    fd: number,
    grace: number,
    code: number,
    memory: number,
    bytes: number,
    places: Int32Array,
    hooks: object | undefined,
  ): number;
  stop(): void;
  probe(hooks: object): boolean;
  probed(): string | undefined;
}

export class Lifeline implements Disposable {
  /** Why there are no stacks and no mark of the heap's limit; empty when there are. */
  readonly unsupported: string;
  readonly #pid = process.pid;
  #running = true;

  constructor(unsupported: string) {
    this.unsupported = unsupported;
  }

  /** When this returns there is no thread any more, and the heap is not watched. */
  stop(): void {
    // The parent's, in a forked child: it has ended with the fork.
    if (this.#running && this.#pid === process.pid) native().stop();
    this.#running = false;
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}

/**
 * Throws ENOTSUP for a descriptor without another end, EALREADY while there is a lifeline, EOVERFLOW when the memory is
 * smaller than said. Where V8 cannot be asked (`unsupported` says why) it still watches the other end.
 */
export function startLifeline(options: LifelineOptions): Lifeline {
  checkObject(options, 'options');
  checkKeys(options, ['fd', 'grace', 'code', 'memory'], 'option of startLifeline');
  const { fd, grace, code, memory } = options;
  checkFd(fd, 'options.fd');
  if (typeof grace !== 'number') throw invalidType('options.grace', 'a number', grace);
  if (!(grace >= 0)) throw outOfRange('options.grace', '>= 0', grace);
  checkInteger(code, 'options.code', 0, 255);
  const places = placesIn(memory);
  if (!isMainThread) throw mainThreadOnly('startLifeline()');
  const { hooks, reason } = memory === undefined ? { hooks: undefined, reason: '' } : trustedHooks();
  const result = native().start(fd, grace, code, memory?.fd ?? -1, memory?.bytes ?? 0, places, hooks);
  if (result === -EALREADY) {
    throw stateError('LIFELINE_RUNNING', 'This process has a lifeline: stop it before you start another');
  }
  if (result === -ENOTSUP) throw invalidValue('options.fd', 'one end of a pipe or socket', fd);
  if (result < 0) throw systemError(result, 'startLifeline', { fd });
  return new Lifeline(reason);
}

function placesIn(memory: LifelineMemory | undefined): Int32Array {
  const places = new Int32Array([-1, -1, 0, -1]);
  if (memory === undefined) return places;
  checkObject(memory, 'options.memory');
  checkKeys(memory, ['fd', 'bytes', 'request', 'stack', 'nearHeapLimit'], 'option of startLifeline');
  const { fd, bytes, request, stack, nearHeapLimit } = memory;
  checkFd(fd, 'options.memory.fd');
  checkInteger(bytes, 'options.memory.bytes', 1, Number.MAX_SAFE_INTEGER);
  const end = Math.min(bytes, MAX_OFFSET);
  const place = (value: number | undefined, name: string, size: number, alignment: number) => {
    if (value === undefined) return -1;
    checkInteger(value, name, 0, end - size);
    if (value % alignment !== 0) throw outOfRange(name, `a multiple of ${alignment}`, value);
    return value;
  };
  places[0] = place(request, 'options.memory.request', Float64Array.BYTES_PER_ELEMENT, 8);
  if (stack !== undefined) {
    checkObject(stack, 'options.memory.stack');
    checkKeys(stack, ['at', 'size'], 'option of startLifeline');
    checkInteger(stack.size, 'options.memory.stack.size', LEAST_STACK, end);
    places[1] = place(stack.at, 'options.memory.stack.at', stack.size, 4);
    places[2] = stack.size;
  }
  const mark = place(nearHeapLimit, 'options.memory.nearHeapLimit', Float64Array.BYTES_PER_ELEMENT, 8);
  if (!nodeWatchesHeap()) places[3] = mark;
  return places;
}

let trusted: { hooks: object | undefined; reason: string } | undefined;

/** V8's hooks, once an interrupt has really come and has found the function that it came to. */
function trustedHooks(): { hooks: object | undefined; reason: string } {
  trusted ??= test(interruptHooks());
  return trusted;
}

function test(hooks: object | string): { hooks: object | undefined; reason: string } {
  if (typeof hooks === 'string') return { hooks: undefined, reason: hooks };
  if (!native().probe(hooks)) {
    return {
      hooks: undefined,
      reason: 'forkbeard.node and forkbeard_v8.node belong to different versions of forkbeard',
    };
  }
  if (!spinWhileProbed()?.includes(spinWhileProbed.name)) {
    return { hooks: undefined, reason: "this Node's V8 could not be interrupted" };
  }
  return { hooks, reason: '' };
}

/** V8 tells only whoever asked last that the heap is near its limit, and Node was told to write snapshots then. */
function nodeWatchesHeap(): boolean {
  const flags = [...process.execArgv, process.env['NODE_OPTIONS'] ?? ''].join(' ').replaceAll('_', '-');
  return flags.includes('--heapsnapshot-near-heap-limit');
}

function spinWhileProbed(): string | undefined {
  let text = native().probed();
  for (let i = 0; i < PROBE_ROUNDS && text === undefined; i++) text = native().probed();
  return text;
}

let loaded: NativeLifeline | undefined;

function native(): NativeLifeline {
  loaded ??= addon<{ lifeline: NativeLifeline }>().lifeline;
  return loaded;
}
