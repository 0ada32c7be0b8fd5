/**
 * One closure in a forked child: its result comes back by structured clone over a pipe, its exception with everything
 * that can be cloned, and a child that dies without an answer is an error that says how. `loop.call` is this.
 */
import { readFileSync, writeSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';
import { EAGAIN } from '../sys/errno.ts';
import {
  abortError,
  checkAbortSignal,
  checkFunction,
  checkInteger,
  checkKeys,
  checkObject,
  invalidType,
  outOfRange,
  stateError,
  systemError,
} from '../sys/errors.ts';
import { close, pipe, read, setNonBlocking } from '../sys/index.ts';
import type { CallOptions, ForkContext, ForkedProcess } from './contract.ts';
import { type Forks, killIfAlive } from './fork.ts';

/** How often the child's memory is looked at, ms. */
const LOOK_AT_MEMORY = 10;
const CHUNK = 1 << 16;
/** How much is read in one turn of the loop, so that others get theirs. */
const TURN = 1 << 24;
const HEADER = 9;
const VALUE = 0;
const THROWN = 1;
const UNCLONABLE = 2;

export async function call(
  forks: Forks,
  code: (context: ForkContext) => unknown,
  options: CallOptions = {},
): Promise<unknown> {
  checkFunction(code, 'code');
  const { timeout, signal, maxMemory } = checkOptions(options);
  if (signal?.aborted) throw abortError(signal);
  const [result, answer] = pipe();
  let child: ForkedProcess;
  try {
    child = await forks.fork(
      { code: (context) => give(answer, code as (context: ForkContext) => unknown, context) },
      [answer],
    );
  } catch (error) {
    close(result);
    throw error;
  } finally {
    close(answer);
  }

  const { loop } = forks;
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const watchers: Disposable[] = [];
    let over = false;
    const settle = (action: () => void) => {
      if (over) return;
      over = true;
      for (const watcher of watchers) watcher[Symbol.dispose]();
      signal?.removeEventListener('abort', abort);
      close(result);
      action();
    };
    const end = (error: () => Error) => {
      settle(() => {
        killIfAlive(child);
        // Not before it is gone: who gave it a limit wants it kept.
        void child.exited.then(() => reject(error()));
      });
    };
    const abort = () => end(() => abortError(signal as AbortSignal));
    const receive = () => {
      for (let taken = 0; taken < TURN; ) {
        const chunk = Buffer.allocUnsafe(CHUNK);
        const count = read(result, chunk);
        if (count === -EAGAIN) return;
        if (count > 0) {
          chunks.push(count === CHUNK ? chunk : chunk.subarray(0, count));
          taken += count;
          continue;
        }
        const errno = count;
        settle(() => {
          // The child ends by itself; its answer is not held back until it has.
          const reply = open(chunks);
          if (reply !== undefined) {
            reply.kind === VALUE ? resolve(reply.value) : reject(reply.value);
            return;
          }
          killIfAlive(child);
          void child.exited.then(({ exitCode, signal }) => {
            if (errno < 0) reject(systemError(errno, 'read'));
            else reject(diedError(exitCode, signal));
          });
        });
        return;
      }
    };
    try {
      watchers.push(loop.watchIo(result, { onReadReady: receive }));
    } catch (error) {
      // The kernel has no room to watch for an answer.
      end(() => error as Error);
      return;
    }
    if (timeout !== undefined) {
      const late = () => stateError('CALL_TIMEOUT', `The call took longer than ${timeout} ms and was ended`);
      watchers.push(loop.watchTime({ after: timeout }, () => end(late)));
    }
    if (maxMemory !== undefined) {
      const large = () =>
        stateError('CALL_MEMORY', `The call used more than ${maxMemory} bytes and was ended`);
      const look = () => {
        if (residentBytes(child.pid) > maxMemory) end(large);
        else watchers[2] = loop.watchTime({ after: LOOK_AT_MEMORY }, look);
      };
      watchers[2] = loop.watchTime({ after: 0 }, look);
      watchers[1] ??= watchers[2];
    }
    signal?.addEventListener('abort', abort);
    if (signal?.aborted) abort();
  });
}

function diedError(exitCode: number | null, signal: string | null): Error {
  const how = signal === null ? `with exit code ${exitCode}` : `by ${signal}`;
  return Object.assign(stateError('CALL_DIED', `The child ended ${how} without an answer`), {
    exitCode,
    signal,
  });
}

/** 0 when it cannot be known: the process ended, or there is no /proc. */
function residentBytes(pid: number): number {
  try {
    const kilobytes = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
    return Number(kilobytes ?? 0) * 1024;
  } catch {
    return 0;
  }
}

function checkOptions(options: CallOptions): CallOptions {
  checkObject(options, 'options');
  checkKeys(options, ['timeout', 'signal', 'maxMemory'], 'call option');
  const { timeout, signal, maxMemory } = options;
  if (timeout !== undefined) {
    if (typeof timeout !== 'number') throw invalidType('options.timeout', 'a number', timeout);
    if (!(timeout >= 0)) throw outOfRange('options.timeout', '>= 0', timeout);
  }
  checkAbortSignal(signal);
  if (maxMemory !== undefined) checkInteger(maxMemory, 'options.maxMemory', 1, Number.MAX_SAFE_INTEGER);
  return options;
}

// ----------------------------------------------------------------------------------------- in the child

async function give(
  fd: number,
  code: (context: ForkContext) => unknown,
  context: ForkContext,
): Promise<number> {
  let message: Buffer;
  try {
    message = seal(VALUE, await code(context));
  } catch (error) {
    message = seal(THROWN, error);
  }
  setNonBlocking(fd, false);
  for (let at = 0; at < message.length; ) at += writeSync(fd, message, at);
  return 0;
}

function seal(kind: number, value: unknown): Buffer {
  let body: Buffer;
  try {
    body = serialize(kind === VALUE ? value : takeApart(value, new Map()));
  } catch (error) {
    // What cannot be cloned is told as an error of the call.
    return seal(UNCLONABLE, error);
  }
  const header = Buffer.alloc(HEADER);
  header.writeUInt8(kind, 0);
  header.writeBigUInt64LE(BigInt(body.length), 1);
  return Buffer.concat([header, body]);
}

/** An error, in parts that can be cloned one by one; anything else as it is. */
interface Parts {
  isError: boolean;
  value?: unknown;
  type?: string;
  name?: string;
  message?: string;
  stack?: string | undefined;
  /** `cause` and, of an AggregateError, `errors`, in parts themselves. */
  inner?: { cause?: Parts; errors?: Parts[] };
  own?: Record<string, unknown>;
}

const APART = ['name', 'message', 'stack', 'cause', 'errors'];

/** `known`: errors that are taken apart already. One may be its own cause. */
function takeApart(value: unknown, known: Map<unknown, Parts>): Parts {
  const taken = known.get(value);
  if (taken !== undefined) return taken;
  if (!(value instanceof Error)) return { isError: false, value: clonable(value) };
  const parts: Parts = { isError: true };
  known.set(value, parts);
  const own: Record<string, unknown> = {};
  for (const key of Object.keys(value)) {
    if (APART.includes(key)) continue;
    const property = (value as unknown as Record<string, unknown>)[key];
    own[key] = clonable(property);
  }
  const { errors } = value as AggregateError;
  return Object.assign(parts, {
    type: builtInType(value),
    name: String(value.name),
    message: String(value.message),
    stack: typeof value.stack === 'string' ? value.stack : undefined,
    inner: {
      ...('cause' in value ? { cause: takeApart(value.cause, known) } : {}),
      ...(Array.isArray(errors) ? { errors: errors.map((error) => takeApart(error, known)) } : {}),
    },
    own,
  });
}

/** The value, or what it looks like when it cannot be cloned. */
function clonable(value: unknown): unknown {
  try {
    // Some of what can be written cannot be read: an error that is its own cause, say.
    deserialize(serialize(value));
    return value;
  } catch {
    return String(value);
  }
}

const TYPES = {
  AggregateError,
  EvalError,
  RangeError,
  ReferenceError,
  SyntaxError,
  TypeError,
  URIError,
} as const;

function builtInType(error: Error): string {
  for (const [name, Type] of Object.entries(TYPES)) if (error instanceof Type) return name;
  return 'Error';
}

// ---------------------------------------------------------------------------------------- in the parent

interface Reply {
  kind: number;
  value: unknown;
}

/** What the child has said, if it has said all. */
function open(chunks: readonly Buffer[]): Reply | undefined {
  try {
    const message = Buffer.concat(chunks);
    if (message.length < HEADER) return undefined;
    const body = message.subarray(HEADER);
    if (BigInt(body.length) !== message.readBigUInt64LE(1)) return undefined;
    const kind = message.readUInt8(0);
    const value: unknown = deserialize(body);
    if (kind === VALUE) return { kind, value };
    const error = putTogether(value as Parts, new Map());
    return kind === THROWN ? { kind, value: error } : unclonable(error as Error);
  } catch (error) {
    return unclonable(error as Error);
  }
}

function unclonable(cause: Error): Reply {
  const text = `The result of the call cannot be cloned: ${cause.message}`;
  return { kind: UNCLONABLE, value: stateError('CALL_UNCLONABLE', text, { cause }) };
}

function putTogether(parts: Parts, known: Map<Parts, Error>): unknown {
  if (!parts.isError) return parts.value;
  const made = known.get(parts);
  if (made !== undefined) return made;
  const Type = TYPES[parts.type as keyof typeof TYPES] as ErrorConstructor | undefined;
  const error =
    Type === (AggregateError as unknown)
      ? new AggregateError([], parts.message)
      : new (Type ?? Error)(parts.message);
  known.set(parts, error);
  const define = (key: string, value: unknown, enumerable: boolean) =>
    Object.defineProperty(error, key, { value, enumerable, configurable: true, writable: true });
  if (parts.name !== undefined && parts.name !== error.name) define('name', parts.name, false);
  define('stack', parts.stack, false);
  const { cause, errors } = parts.inner ?? {};
  if (cause !== undefined) define('cause', putTogether(cause, known), false);
  if (errors !== undefined)
    define(
      'errors',
      errors.map((one) => putTogether(one, known)),
      false,
    );
  for (const [key, value] of Object.entries(parts.own ?? {})) define(key, value, true);
  return error;
}
