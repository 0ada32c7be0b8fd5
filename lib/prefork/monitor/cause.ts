/**
 * Why a process of the application ended: from its wait status, from what we did to it ourselves, and from what it and
 * the kernel left behind as evidence. Pure, but for `OomKills`, which reads the kernel's counter.
 */
import { readFileSync } from 'node:fs';
import { ending, time } from '../../daemon/words.ts';
import type { ExitCause, ExitRecord } from '../contract.ts';
import { causeOf, EXIT } from '../exit-codes.ts';

/** Why we killed it, where it was us. */
export type KillReason = Extract<
  ExitCause,
  | 'request-deadline'
  | 'blocked-loop'
  | 'boot-deadline'
  | 'graceful-deadline'
  | 'operator'
  | 'system'
  | 'drained'
>;

export interface Evidence {
  exitCode: number | null;
  signal: string | null;
  /** Why we sent SIGKILL, if we did. */
  killed: KillReason | undefined;
  /** It has been ready. */
  ready: boolean;
  /** It was told to leave. */
  leaving: boolean;
  /** V8 came near its heap's limit. */
  nearHeapLimit: boolean;
  /** The kernel has killed somebody of this control group for want of memory since the last end. */
  oomKill: boolean;
}

/** How Node ends when V8 gives up: abort(), or a trap of the processor's. */
const ABORTS = new Set(['SIGABRT', 'SIGTRAP', 'SIGILL']);
const CRASHES = new Set(['SIGSEGV', 'SIGBUS', 'SIGFPE', 'SIGSYS', ...ABORTS]);
/** What Node's own shell-like code for an abort is, when it exits instead of being killed. */
const NODE_ABORT = 134;

export function classify(evidence: Evidence): ExitCause {
  const { exitCode, signal, killed, ready, leaving, nearHeapLimit, oomKill } = evidence;
  if (signal === 'SIGKILL') {
    if (killed !== undefined) return killed;
    return oomKill ? 'kernel-oom' : 'operator';
  }
  if (signal !== null) {
    if (ABORTS.has(signal) && nearHeapLimit) return 'heap-limit';
    return CRASHES.has(signal) ? 'crash' : 'operator';
  }
  // Nobody saw how: not our child, or reaped by somebody else.
  if (exitCode === null) return killed ?? (leaving ? 'drained' : 'crash');
  if (exitCode === NODE_ABORT) return nearHeapLimit ? 'heap-limit' : 'crash';
  const cause = causeOf(exitCode);
  // An application that ends itself while it loads, however politely, does not boot.
  const isOurs = exitCode >= EXIT.recycled && exitCode <= EXIT.blockedLoop;
  return ready || leaving || isOurs ? cause : 'boot';
}

/** An end of which nobody has said more, in words. `bootTimeout`: ms. */
export function unexplained(
  who: string,
  { cause, exitCode, signal, ready }: Pick<ExitRecord, 'cause' | 'exitCode' | 'signal' | 'ready'>,
  bootTimeout: number,
): string {
  if (cause === 'boot-deadline')
    return `${who} was not ready within the boot timeout of ${time(bootTimeout)}`;
  const how = cause === 'boot' ? ending(exitCode, signal) : `${cause}, ${ending(exitCode, signal)}`;
  return `${who} ended (${how})${ready ? '' : ' before it was ready'}`;
}

/** What a system call that failed while a process was to be started says. */
export function causeOfError(code: string | undefined): ExitCause {
  if (code === 'EMFILE' || code === 'ENFILE') return 'out-of-descriptors';
  if (code === 'ENOMEM' || code === 'EAGAIN' || code === 'ENOBUFS') return 'out-of-kernel-memory';
  return 'system';
}

/** The kernel's count of processes that it killed in our control group for want of memory. */
export class OomKills {
  readonly #file: string | undefined;
  #last: number;

  constructor(files: readonly string[] = eventFiles()) {
    this.#file = files.find((file) => count(file) !== undefined);
    this.#last = this.#read();
  }

  /** Whether there were any since it was last asked. */
  any(): boolean {
    const now = this.#read();
    const more = now > this.#last;
    this.#last = now;
    return more;
  }

  #read(): number {
    return this.#file === undefined ? 0 : (count(this.#file) ?? 0);
  }
}

function count(file: string): number | undefined {
  try {
    const found = /^oom_kill (\d+)$/m.exec(readFileSync(file, 'latin1'))?.[1];
    return found === undefined ? undefined : Number(found);
  } catch {
    return undefined;
  }
}

/** Control groups version 2, then the memory controller of version 1; in a container our group may look like the root. */
function eventFiles(): string[] {
  let groups = '';
  try {
    groups = readFileSync('/proc/self/cgroup', 'latin1');
  } catch {
    return [];
  }
  const unified = /^0::(.*)$/m.exec(groups)?.[1] ?? '';
  const memory = /^\d+:(?:\S+,)?memory(?:,\S+)?:(.*)$/m.exec(groups)?.[1] ?? '';
  return [
    `/sys/fs/cgroup${unified}/memory.events`,
    `/sys/fs/cgroup/memory${memory}/memory.oom_control`,
    '/sys/fs/cgroup/memory/memory.oom_control',
  ];
}
