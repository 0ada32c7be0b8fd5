/**
 * How a forked child runs its code and ends. Node's own way out joins threads that do not exist there, so all ways that
 * lead to it, `process.exit`, the natural end of the loop and an uncaught exception, are led here, where they come
 * through `process.emit('exit')`, `process.reallyExit` or `process._fatalException`. Used by become-child.ts and fork.ts.
 */
import { EventEmitter } from 'node:events';
import { inspect } from 'node:util';
import { takeCoverage } from 'node:v8';
import { nativeFork } from './native-fork.ts';
import { complain, finishOutput } from './output.ts';

const EXIT_UNSETTLED = 13;
const EXIT_THROWN = 255;
const EXIT_HANDLER_THREW = 7;
const UNSETTLED =
  'Warning: the promise that the code of fork() returned is not settled, and nothing can settle it\n';

/** `process`, with parts that its types do not tell. */
export type Self = NodeJS.Process & {
  _events: Record<string | symbol, unknown>;
  _exiting?: boolean;
  _fatalException: (error: unknown, fromPromise: boolean) => boolean;
  reallyExit: (code?: number) => never;
  _tickCallback?: () => void;
};

type Exit = (code: number) => never;

/** What is at the end of all ways. */
interface End {
  exit: Exit;
  complain(text: string): void;
}

/** Tells the listeners of 'exit' and ends: the way of this process, once it is a child. */
let leave: Exit = (code) => process.exit(code);
/** The code's promise is not settled yet. */
let unsettled = false;

export function takeOverTheEnd(): void {
  unsettled = false;
  leave = leadTheWayOut(process as Self, { exit, complain });
}

/** Runs the child's program; it never returns into the parent's. */
export function live(code: () => unknown, fail: (error: unknown) => never): void {
  let result: unknown;
  let later: boolean;
  try {
    result = code();
    later = typeof (result as PromiseLike<unknown> | undefined)?.then === 'function';
  } catch (error) {
    fail(error);
  }
  if (!later) {
    endWith(result);
    return;
  }
  unsettled = true;
  const settled = (value: unknown) => {
    unsettled = false;
    endWith(value);
  };
  try {
    (result as PromiseLike<unknown>).then(settled, fail);
  } catch (error) {
    fail(error);
  }
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
  return leave(0);
}

/** Tells on stderr what went wrong and ends, as after an exception of the child's code. */
export function endThrown(error: unknown): never {
  complain(`${typeof error === 'object' ? show(error) : `Uncaught ${show(error)}`}\n`);
  return endNow(EXIT_THROWN);
}

/** Whatever was thrown: looking at it may throw again. */
function show(thrown: unknown): string {
  try {
    return inspect(thrown);
  } catch {
    return `an exception of type ${typeof thrown} that cannot be shown`;
  }
}

function endWith(value: unknown): void {
  if (typeof value === 'number') endNow(value & 0xff);
}

/** As `process.exit` does, which test runners replace. */
function endNow(code: number): never {
  process.exitCode = code;
  return leave(code);
}

/**
 * `process` is this one, or a rehearsal's stand-in. The functions that Node calls are exchanged, and not the ones that
 * are there called on: packages put theirs before them to hear of the parent's end.
 */
export function leadTheWayOut(process: Self, { exit, complain }: End): Exit {
  const emit = EventEmitter.prototype.emit;
  const fatal = process._fatalException;
  let failing = false;
  let ending = false;
  process.exitCode = undefined as never;
  process._exiting = false;

  process.reallyExit = (code) => exit(code ?? 0);
  process.emit = function (this: unknown, event: string | symbol, ...args: unknown[]): boolean {
    if (event === 'beforeExit') return leaveUnlessBusy(args);
    if (event !== 'exit') return Reflect.apply(emit, process, [event, ...args]);
    // An uncaught exception is printed first, see below.
    if (failing || ending) return false;
    return leave(Number(args[0] ?? 0));
  } as typeof process.emit;

  process._fatalException = (error, fromPromise) => {
    failing = true;
    let handled: boolean;
    try {
      handled = fatal.call(process, error, fromPromise);
    } catch (second) {
      complain(`${show(second)}\n`);
      process.exitCode = EXIT_HANDLER_THREW;
      handled = false;
    }
    failing = false;
    if (handled) return true;
    complain(`${show(error)}\n\nNode.js ${process.version}\n`);
    return leave(Number(process.exitCode ?? 1));
  };

  // A moment later Node would find that the parent's main module still awaits something, and complain and say 13.
  function leaveUnlessBusy(args: unknown[]): boolean {
    const heard: boolean = Reflect.apply(emit, process, ['beforeExit', ...args]);
    process._tickCallback?.();
    if (nativeFork().hasWork()) return heard;
    if (!unsettled || process.exitCode !== undefined) return leave(0);
    complain(UNSETTLED);
    return leave(EXIT_UNSETTLED);
  }

  function leave(code: number): never {
    ending = true;
    process._exiting = true;
    process.exitCode ??= code;
    try {
      Reflect.apply(emit, process, ['exit', process.exitCode]);
    } catch (error) {
      complain(`${show(error)}\n`);
      process.exitCode = EXIT_HANDLER_THREW;
    }
    return exit(Number(process.exitCode));
  }

  return leave;
}

function exit(code: number): never {
  finishOutput();
  if (process.env['NODE_V8_COVERAGE']) takeCoverage();
  return nativeFork().end(code & 0xff);
}
