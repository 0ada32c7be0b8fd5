/** What a start came to when it did not come to a running service, in words and with its cause. Used by a starter. */
import type { ExitStatus } from '../process/contract.ts';
import { signalNumber } from '../sys/signals.ts';
import type { Cause } from './service-options.ts';
import type { StopStep } from './shim.ts';

interface AttemptDetails {
  readonly exit?: ExitStatus | null;
  readonly final?: boolean;
  readonly cause?: unknown;
}

/** A run that came to nothing, or to its end. */
export class Attempt extends Error {
  readonly reason: Cause;
  /** Null: it did not come to an end of its own. */
  readonly exit: ExitStatus | null;
  /** Trying again would be the same. */
  readonly final: boolean;

  constructor(reason: Cause, message: string, { exit = null, final = false, cause }: AttemptDetails = {}) {
    super(message, { cause });
    this.reason = reason;
    this.exit = exit;
    this.final = final;
  }

  /** It failed for a shortage that is not its own, and is tried again for as long as that lasts. */
  get isShortage(): boolean {
    return isShortage(this.cause);
  }
}

/** What we, or the machine, have too little of: that says nothing of the service. */
const SHORTAGES: readonly (string | undefined)[] = [
  'EAGAIN',
  'ENOMEM',
  'EMFILE',
  'ENFILE',
  'ENOBUFS',
  // Its record cannot be written: a disk that is full is emptied some time.
  'ENOSPC',
  'EDQUOT',
];

/** What fails for want of something that others may give back; the rest of a refusal is about the service itself. */
const PASSING: readonly (string | undefined)[] = [
  ...SHORTAGES,
  'ETXTBSY',
  // A socket that is bound for it.
  'EADDRINUSE',
];

export function isShortage(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code, obstacle } = error as NodeJS.ErrnoException & { obstacle?: { isShortage?: boolean } };
  return SHORTAGES.includes(code) || obstacle?.isShortage === true;
}

/** The error of what failed with `code`. */
export function shortage(code: string): Error {
  return Object.assign(new Error(code), { code });
}

export function isLocked(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ERR_FORKBEARD_LOCKED';
}

/** What became of a start that the kernel, or another instance's lock, refused. */
export function refusal(error: unknown): Attempt {
  const { code, message } = error as NodeJS.ErrnoException;
  if (isLocked(error)) return new Attempt('locked', message, { final: true, cause: error });
  return new Attempt('refused', message, {
    final: code?.startsWith('E') === true && !PASSING.includes(code),
    cause: error,
  });
}

export function ending(exit: ExitStatus | null): string {
  if (exit === null) return 'its end was not seen';
  return exit.signal === null ? `it ended with code ${exit.exitCode}` : `it was ended by ${exit.signal}`;
}

/** How long a coupled service has without its supervisor, all steps together. */
const ORPHANED = 4000;
/** The steps of a stop as the shim takes them when we are gone: all of it in a few seconds, and SIGKILL at last. */
export function withoutUs(steps: readonly StopStep[]): StopStep[] {
  const kill = { signal: 'KILL', wait: 1000 };
  const before = steps.filter(({ signal }) => signalNumber(signal) !== signalNumber('KILL'));
  const total = before.reduce((sum, { wait }) => sum + wait, 0);
  const scale = Math.min(1, (ORPHANED - kill.wait) / Math.max(1, total));
  return [...before.map(({ signal, wait }) => ({ signal, wait: Math.floor(wait * scale) })), kill];
}
