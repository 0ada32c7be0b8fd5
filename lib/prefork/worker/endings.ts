/**
 * How a process of the application ends: what exit code an error stands for, and what becomes of errors that nobody
 * caught. The monitor decides by the code what follows.
 */
import { writeSync } from 'node:fs';
import { inspect } from 'node:util';
import { EMFILE } from '../../sys/errno.ts';
import { systemError } from '../../sys/errors.ts';
import { EXIT } from '../exit-codes.ts';
import type { Failure } from '../messages.ts';
import type { Plan } from '../plan.ts';
import { SurroundingsError } from './surroundings.ts';

const FRAME = /^\s+at /;
const PLACE = /^(?:file:\/\/)?\/.*:\d+\n/;
const OURS = new URL('../../', import.meta.url).href;

type Faults = Partial<NodeJS.ErrnoException> & { port?: unknown };

/** Why an application may not do that. */
export const LISTENS_ITSELF =
  'The application listens by itself: export its server without calling listen(), the workers listen for it';

const CODES = new Map<string, number>([
  ['ENOMEM', EXIT.memory],
  ['ERR_MEMORY_ALLOCATION_FAILED', EXIT.memory],
  ['ERR_BUFFER_OUT_OF_MEMORY', EXIT.memory],
  ['EMFILE', EXIT.outOfDescriptors],
  ['ENFILE', EXIT.outOfDescriptors],
]);

/** Of an error that ended a worker at work. */
export function codeOfUncaught(error: unknown): number {
  const { code, errno, syscall, message } = faults(error);
  if (error instanceof RangeError && /allocation failed/i.test(message ?? '')) return EXIT.memory;
  const known = CODES.get(String(code));
  if (known !== undefined) return known;
  return typeof errno === 'number' && typeof syscall === 'string' ? EXIT.system : EXIT.uncaught;
}

/** What keeps the application from starting. Who finds its own address taken would look for a stranger who has it. */
export function troubleOfBoot(error: unknown, { listen }: Plan): unknown {
  const { code, syscall, port, message, stack } = faults(error);
  const wanted = code === 'EADDRINUSE' && syscall === 'listen' ? port : undefined;
  if (!listen.some((target) => target.kind === 'tcp' && target.port === wanted)) return error;
  const trouble = new Error(LISTENS_ITSELF);
  if (stack !== undefined && message !== undefined) trouble.stack = stack.replace(message, LISTENS_ITSELF);
  return trouble;
}

/** Of an error that kept the application from starting. */
export function codeOfBoot(error: unknown): number {
  if (error instanceof SurroundingsError) return error.exitCode;
  const { code, syscall } = faults(error);
  const binding = syscall === 'listen' || syscall === 'bind';
  if (binding && code === 'EADDRINUSE') return EXIT.addressInUse;
  if (binding && (code === 'EACCES' || code === 'EPERM')) return EXIT.noPermission;
  return EXIT.boot;
}

/** Of an error of a fork. */
export function codeOfFork(error: unknown): number {
  const { code } = faults(error);
  if (code === 'EAGAIN' || code === 'ENOMEM') return EXIT.outOfKernelMemory;
  if (code === 'EMFILE' || code === 'ENFILE') return EXIT.outOfDescriptors;
  return EXIT.unsafeFork;
}

/** Of a message whose descriptor did not arrive: the kernel leaves it out when this process has no number left for it. */
export function lostOnTheWay(): Error {
  return systemError(-EMFILE, 'recvmsg');
}

/** An error as a message carries it. */
export function failure(error: unknown, exitCode: number): Failure {
  const { message, stack, code } = faults(error);
  return {
    message: message ?? inspect(error),
    ...ofTheApplication(stack),
    ...(typeof code === 'string' && { code }),
    exitCode,
  };
}

/** Frames of Node's inside and of ours lead nobody to a mistake; without others the message is all there is to say. */
function ofTheApplication(stack: unknown): { stack?: string } {
  if (typeof stack !== 'string') return {};
  const lines = stack
    .split('\n')
    .filter((line) => !FRAME.test(line) || !(line.includes('node:') || line.includes(OURS)));
  // Before the error itself stands where a syntax error is.
  return lines.some((line) => FRAME.test(line)) || PLACE.test(stack) ? { stack: lines.join('\n') } : {};
}

/**
 * Ends this process by an error that nobody caught, with the code that it stands for. An application that listens for
 * 'uncaughtException' has the say, as in any Node process. Gives a function that takes it back.
 */
export function endWhenUncaught(
  who: string,
  before: (error: unknown) => number = codeOfUncaught,
): () => void {
  const onUncaught = (error: unknown) => {
    if (process.listenerCount('uncaughtException') > 1) return;
    const code = before(error);
    complain(`${who}: uncaught ${inspect(error)}\n`);
    process.exit(code);
  };
  process.on('uncaughtException', onUncaught);
  return () => process.removeListener('uncaughtException', onUncaught);
}

export function complain(text: string): void {
  try {
    writeSync(2, text);
  } catch {
    // Nobody listens.
  }
}

function faults(error: unknown): Faults {
  return (typeof error === 'object' && error !== null ? error : {}) as Faults;
}
