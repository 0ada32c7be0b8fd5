/**
 * A process of the application as the monitor has it in hand: spawned by it, or forked elsewhere and its child by
 * adoption. Its end is told once; a signal never reaches a stranger, since until its end is told nobody has reaped it.
 */
import { readFileSync } from 'node:fs';
import type { ExitStatus } from '../../process/contract.ts';
import type { Loop } from '../../process/loop.ts';
import { launch } from '../../process/spawn.ts';
import { spawnRequest } from '../../process/spawn-options.ts';
import { systemError } from '../../sys/errors.ts';
import { close, ESRCH, kill } from '../../sys/index.ts';
import type { Plan } from '../plan.ts';
import { CHANNEL } from '../worker/inheritance.ts';
import { variables } from '../worker/surroundings.ts';

export interface Child {
  readonly pid: number;
  kill(signal: string): void;
}

export type OnEnd = (exit: ExitStatus) => void;

/** What a process of the application begins with, and inherits. */
export interface Program {
  /** Path of its entry module. */
  readonly entry: string;
  readonly scoreboard: number;
  readonly plan: Plan;
}

export function spawnChild(
  loop: Loop,
  program: Program,
  channel: number,
  listeners: readonly number[],
  parentDeathSignal: string,
  onEnd: OnEnd,
): Child {
  const inherited = [channel, program.scoreboard, ...listeners];
  const { pid, pidfd } = launch(
    spawnRequest({
      command: [process.execPath, ...nodeOptions(), program.entry],
      stdio: Object.fromEntries(inherited.map((fd, index) => [CHANNEL + index, fd])),
      env: { ...environment(), ...forNodeItself(program.plan) },
      // What a terminal sends is the monitor's to answer.
      group: 'new',
      parentDeathSignal,
    }),
  );
  if (pidfd >= 0) close(pidfd);
  // Not as a child that leads its group, which is kept until that is empty: workers that a mold has forked outlive it.
  return watched(loop, pid, onEnd);
}

/**
 * A process that a mold or worker has made for us. Throws ESRCH when there is none of that number, or when it is no
 * child of ours: whoever named it may be wrong, and we would signal a stranger.
 */
export function adoptChild(loop: Loop, pid: number, onEnd: OnEnd): Child {
  if (parentOf(pid) !== process.pid) throw systemError(-ESRCH, 'kill', { pid });
  return watched(loop, pid, onEnd);
}

function watched(loop: Loop, pid: number, onEnd: OnEnd): Child {
  let gone = false;
  loop.watchProcess(pid, (exit) => {
    gone = true;
    onEnd(exit);
  });
  return { pid, kill: (signal) => gone || unlessGone(() => kill(pid, signal)) };
}

function parentOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // "pid (name) state ppid": the name may hold anything, parentheses and blanks too.
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return 0;
  }
}

/** Another user's by now, or on its way out: its end will be told. */
function unlessGone(send: () => void): void {
  try {
    send();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ESRCH' && code !== 'EPERM') throw error;
  }
}

/** Node's options that the monitor was started with, but for those that are about the program or its one debugger. */
function nodeOptions(): string[] {
  const options: string[] = [];
  const { execArgv } = process;
  for (let index = 0; index < execArgv.length; index++) {
    const option = execArgv[index] as string;
    if (/^(-e|--eval|-p|--print|-pe)$/.test(option)) index++;
    else if (!/^(--(eval|print|input-type|inspect|test|watch)\b|-[ei]$)/.test(option)) options.push(option);
  }
  return options;
}

/** Ours, without what was said to the monitor alone. */
function environment(): Record<string, string | undefined> {
  const env = { ...process.env };
  for (const name of OURS_ALONE) delete env[name];
  return env;
}

/** The rest of its variables a process reads for itself: this one is too late then. */
function forNodeItself(plan: Plan): Record<string, string | undefined> {
  try {
    const { NODE_OPTIONS } = variables(plan);
    return NODE_OPTIONS === undefined ? {} : { NODE_OPTIONS };
  } catch {
    // The process finds that out as well, and says so.
    return {};
  }
}

/** Of systemd's, and of a monitor that hands over to us. */
const OURS_ALONE = [
  'NOTIFY_SOCKET',
  'WATCHDOG_USEC',
  'WATCHDOG_PID',
  'LISTEN_FDS',
  'LISTEN_PID',
  'LISTEN_FDNAMES',
  'FORKBEARD_UPGRADE',
];
