/**
 * Who a process is: its number, when it began, and in which run of the machine, because numbers come again. Asked before
 * anything is sent to a process that is not held otherwise, and before a record is believed. A fact that cannot be read
 * is an answer of its own, and it never means that a process may be killed.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { stateError } from '../sys/errors.ts';
import { isShortage } from './attempt.ts';

export interface Identity {
  readonly pid: number;
  /** Clock ticks since the machine's start. */
  readonly startTime: number | null;
  readonly bootId: string | null;
}

/**
 * `same`: it is the one. `other`: its number is another process's by now, or the machine was started anew. `gone`: there
 * is no such process, or it is a zombie, which does nothing any more. `unreadable`: there may be, and nobody can say
 * whether it is the one.
 */
export type Match = 'same' | 'other' | 'gone' | 'unreadable';

export interface ProcessFacts {
  /** As in ps: R, S, D, T, … */
  readonly state: string;
  readonly parent: number;
  readonly group: number;
  readonly threads: number;
  readonly startTime: number;
}

const LARGEST_PID = 0x7fff_ffff;

let boot: string | null | undefined;

/**
 * Throws where /proc is not that of the numbers that we have: it names other processes by them (another pid namespace's,
 * as after `unshare --pid` alone), or nobody. Nothing that is said of a process would be true.
 */
export function requireProcessTable(): void {
  if (process.platform !== 'linux') return;
  let status = '';
  try {
    status = readFileSync('/proc/self/status', 'latin1');
  } catch {
    // It is not mounted, or does not know us.
  }
  // All our numbers, from the namespace of /proc inwards; the older line has the first of them.
  const [, numbers] = /^NSpid:\s*(.*)$/m.exec(status) ?? /^Pid:\s*(.*)$/m.exec(status) ?? [];
  if (numbers === String(process.pid)) return;
  throw stateError(
    'PROCESS_TABLE',
    numbers === undefined
      ? '/proc is not mounted, and without it nobody knows which processes there are'
      : '/proc is that of another pid namespace; mount it anew in this one (as unshare --mount-proc does)',
  );
}

/** Another one after each start of the machine; null where the system does not tell. */
export function bootId(): string | null {
  if (boot === undefined) {
    try {
      boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    } catch {
      boot = null;
    }
  }
  return boot;
}

export function factsOf(pid: number): ProcessFacts | 'gone' | 'unreadable' {
  if (!Number.isInteger(pid) || pid < 1 || pid > LARGEST_PID) return 'gone';
  try {
    const facts = parse(readFileSync(`/proc/${pid}/stat`, 'latin1'));
    if (facts === null) return 'unreadable';
    return hasEnded(facts) ? 'gone' : facts;
  } catch {
    // Hidden from us, perhaps (hidepid), or this system has no /proc.
    return exists(pid) ? 'unreadable' : 'gone';
  }
}

/** Whether that process still runs. */
export function match(identity: Identity): Match {
  // What ran before the machine's start does not run now, whoever has its number.
  if (identity.bootId !== null && bootId() !== null && identity.bootId !== bootId()) return 'other';
  const facts = factsOf(identity.pid);
  if (facts === 'gone' || facts === 'unreadable') return facts;
  if (identity.startTime === null || identity.bootId === null) return 'unreadable';
  return facts.startTime === identity.startTime ? 'same' : 'other';
}

/** The identity of a process that runs now. Null when that cannot be said, or it has ended. */
export function identify(pid: number): Identity | null {
  const facts = factsOf(pid);
  return typeof facts === 'string' ? null : { pid, startTime: facts.startTime, bootId: bootId() };
}

/**
 * A variable of the environment that the program was started with. Null when that cannot be read, because it is another
 * user's; throws when it cannot be read for want of something of ours.
 */
export function initialVariable(pid: number, name: string): string | undefined | null {
  try {
    const variables = environmentOf(pid).split('\0');
    return variables.find((variable) => variable.startsWith(`${name}=`))?.slice(name.length + 1);
  } catch (error) {
    if (isShortage(error)) throw error;
    return null;
  }
}

/** It has written something else where its environment was, as who gives himself a title does. False when that cannot be read. */
export function hasNoEnvironment(pid: number): boolean {
  try {
    return !environmentOf(pid).includes('=');
  } catch (error) {
    if (isShortage(error)) throw error;
    return false;
  }
}

/** The program and its arguments, for people to read. */
export function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}

/** Also a process whose first thread alone has ended is a zombie to look at, and has no environment: the others have. */
function hasEnded({ state, threads }: ProcessFacts): boolean {
  return state === 'Z' ? threads <= 1 : 'Xx'.includes(state);
}

function environmentOf(pid: number): string {
  const own = environmentAt(`/proc/${pid}/environ`);
  if (own !== '') return own;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const its = environmentAt(`/proc/${pid}/task/${thread}/environ`);
    if (its !== '') return its;
  }
  return '';
}

function environmentAt(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    // What newer kernels say of a thread that has ended.
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return '';
    throw error;
  }
}

function parse(stat: string): ProcessFacts | null {
  // The command's name may hold anything, parentheses included.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, parent, group] = fields;
  const threads = Number(fields[17]);
  const startTime = Number(fields[19]);
  if (state === undefined || !Number.isSafeInteger(startTime)) return null;
  return { state, parent: Number(parent), group: Number(group), threads, startTime };
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
