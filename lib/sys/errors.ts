/**
 * Every error that forkbeard throws is made here, so that all messages of a kind stand together. Failed system calls
 * look like Node's own (`code`, negative `errno`, `syscall`, and what it was about); misuse has a code of the form
 * `ERR_FORKBEARD_…`. The bottom room of the house: it imports nothing from it.
 */
import { constants } from 'node:os';
import { getSystemErrorMap, inspect, types } from 'node:util';

const errnos = new Map<number, [name: string, message: string]>(getSystemErrorMap());
// libuv's table lacks what its own calls never give.
const others: Readonly<Record<string, string>> = {
  ECHILD: 'no child processes',
  EIDRM: 'identifier removed',
  ENOEXEC: 'exec format error',
  ESTALE: 'stale file handle',
  ETIME: 'timer expired',
};
for (const [name, errno] of Object.entries(constants.errno)) {
  if (!errnos.has(-errno)) errnos.set(-errno, [name, others[name] ?? `error ${errno}`]);
}
// Node has no name for this one, which says that too many descriptors are on their way (sendmsg with SCM_RIGHTS).
errnos.set(process.platform === 'linux' ? -109 : -59, ['ETOOMANYREFS', 'too many references']);

export interface SystemErrorDetails {
  fd?: number;
  pid?: number;
  path?: string;
  address?: string;
  port?: number;
  step?: string;
}

export interface SystemError extends Error, SystemErrorDetails {
  code: string;
  errno: number;
  syscall: string;
}

/** The error of a system call that returned `errno` (negative, as Node has it). */
export function systemError(errno: number, syscall: string, details: SystemErrorDetails = {}): SystemError {
  const [code, message] = errnos.get(errno) ?? [`E${-errno}`, `unknown error ${-errno}`];
  let where = details.path === undefined ? '' : ` '${details.path}'`;
  if (details.address !== undefined)
    where = ` ${details.address}${details.port === undefined ? '' : `:${details.port}`}`;
  const step = details.step === undefined ? '' : ` (${details.step})`;
  const error = new Error(`${code}: ${message}, ${syscall}${step}${where}`);
  if (Error.captureStackTrace) Error.captureStackTrace(error, systemError);
  return Object.assign(error, { code, errno, syscall, ...details }) as SystemError;
}

/** Returns `result`, or throws what the kernel said. */
export function check(result: number, syscall: string, details?: SystemErrorDetails): number {
  if (result < 0) throw systemError(result, syscall, details);
  return result;
}

type ErrorClass = new (message: string, options?: ErrorOptions) => Error;

function misuse(
  Class: ErrorClass,
  code: string,
  message: string,
  options?: ErrorOptions,
): Error & { code: string } {
  const error = new Class(message, options);
  return Object.assign(error, { code: `ERR_FORKBEARD_${code}` });
}

function describe(value: unknown): string {
  try {
    return inspect(value, { depth: 0, maxStringLength: 128, maxArrayLength: 8 });
  } catch {
    // An object that throws while it is looked at must not hide what is wrong with it.
    return typeof value;
  }
}

/** Wrong state or wrong moment: `ERR_FORKBEARD_<code>`. */
export function stateError(code: string, message: string, options?: ErrorOptions): Error & { code: string } {
  return misuse(Error, code, message, options);
}

export function invalidType(name: string, expected: string, received: unknown): Error {
  return misuse(
    TypeError,
    'INVALID_ARG_TYPE',
    `"${name}" must be ${expected}. Received ${describe(received)}`,
  );
}

export function invalidValue(name: string, expected: string, received: unknown): Error {
  return misuse(
    TypeError,
    'INVALID_ARG_VALUE',
    `"${name}" must be ${expected}. Received ${describe(received)}`,
  );
}

export function outOfRange(name: string, range: string, received: unknown): Error {
  return misuse(RangeError, 'OUT_OF_RANGE', `"${name}" must be ${range}. Received ${describe(received)}`);
}

/** A signal that this platform does not have; `near` is the name that was perhaps meant. */
export function unknownSignal(signal: string | number, near?: string): Error {
  const hint = near === undefined ? '' : `; did you mean '${near}'?`;
  return misuse(TypeError, 'UNKNOWN_SIGNAL', `Unknown signal ${describe(signal)}${hint}`);
}

/** SIGKILL and SIGSTOP. */
export function uncatchableSignal(name: string): Error {
  return misuse(
    TypeError,
    'SIGNAL_UNCATCHABLE',
    `${name} cannot be watched: the kernel lets no process see it`,
  );
}

/** A signal that this process needs for itself. */
export function reservedSignal(name: string, reason: string): Error {
  return misuse(TypeError, 'SIGNAL_RESERVED', `${name} cannot be watched: ${reason}`);
}

/** Something that belongs to the process as a whole was asked for in a Worker. */
export function mainThreadOnly(what: string): Error {
  const error = new TypeError(`${what} is not supported in workers`);
  return Object.assign(error, { code: 'ERR_WORKER_UNSUPPORTED_OPERATION' });
}

/** An option that this platform has nothing for. */
export function unsupported(name: string, platform: string): Error {
  return misuse(TypeError, 'UNSUPPORTED', `"${name}" is not supported on ${platform}`);
}

/** What an aborted operation is rejected with; the signal's reason is its cause. */
export function abortError(signal: AbortSignal): Error {
  const error = new Error('The operation was aborted', { cause: signal.reason });
  error.name = 'AbortError';
  return Object.assign(error, { code: 'ABORT_ERR' });
}

export function unknownName(what: string, name: string, known: readonly string[]): Error {
  const near = nearest(name, known);
  const hint = near === undefined ? '' : `; did you mean "${near}"?`;
  return misuse(TypeError, 'UNKNOWN_OPTION', `Unknown ${what} "${name}"${hint}`);
}

/** An option of a server that cannot be; `exitCode` is what a command ends with for it. */
export function invalidOption(option: string, message: string, exitCode = 2): Error & { code: string } {
  return Object.assign(misuse(TypeError, 'INVALID_OPTION', message), { option, exitCode });
}

// ---------------------------------------------------------------------------------- argument checks

const MAX_INT32 = 0x7fff_ffff;

export function checkInteger(
  value: unknown,
  name: string,
  min: number,
  max: number,
): asserts value is number {
  if (typeof value !== 'number') throw invalidType(name, 'a number', value);
  if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value);
  if (value < min || value > max) throw outOfRange(name, `>= ${min} and <= ${max}`, value);
}

/** A descriptor number. Whether it is open is the kernel's to say. */
export function checkFd(value: unknown, name = 'fd'): asserts value is number {
  checkInteger(value, name, 0, MAX_INT32);
}

/** A real one: not something that only has its prototype, and not a Proxy. */
export function checkBytes(value: unknown, name: string): asserts value is Uint8Array {
  if (!types.isUint8Array(value)) throw invalidType(name, 'a Uint8Array', value);
}

export function checkFunction(value: unknown, name: string): asserts value is (...args: never[]) => unknown {
  if (typeof value !== 'function') throw invalidType(name, 'a function', value);
}

export function checkObject(value: unknown, name: string): asserts value is object {
  if (typeof value !== 'object' || value === null) throw invalidType(name, 'an object', value);
  // Nearly always, and sooner known.
  if (Object.getPrototypeOf(value) === Object.prototype) return;
  // What is in them are no properties: all of it would be passed over in silence.
  if (types.isMap(value) || types.isSet(value)) throw invalidType(name, 'a plain object', value);
}

export function checkBoolean(value: unknown, name: string): asserts value is boolean {
  if (typeof value !== 'boolean') throw invalidType(name, 'a boolean', value);
}

/** Returns it. */
export function checkAbortSignal(
  signal: AbortSignal | undefined,
  name = 'options.signal',
): AbortSignal | undefined {
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw invalidType(name, 'an AbortSignal', signal);
  return signal;
}

/** Any number of milliseconds but NaN; Infinity is never. */
export function checkMillis(value: unknown, name: string): asserts value is number {
  if (typeof value !== 'number') throw invalidType(name, 'a number', value);
  if (Number.isNaN(value)) throw outOfRange(name, 'a number of milliseconds', value);
}

/** Refuses names that are not known and suggests the nearest one that is. */
export function checkKeys(value: object, known: readonly string[], what: string): void {
  // This way, and not by Object.keys, no list is made of them.
  for (const key in value) {
    if (!known.includes(key) && Object.hasOwn(value, key)) throw unknownName(what, key, known);
  }
}

/** The candidate that a misspelt word was perhaps meant to be. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  // A word of which hardly anything is left was not misspelt.
  const most = word.length < 4 ? 1 : Math.max(2, Math.floor(word.length / 3));
  let bestDistance = Math.min(most, word.length - 1) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min((previous[j] as number) + 1, (row[j - 1] as number) + 1, substitution);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, (beforePrevious[j - 2] as number) + 1);
      }
      row[j] = best;
    }
    [beforePrevious, previous] = [previous, row];
  }
  return previous[b.length] as number;
}
