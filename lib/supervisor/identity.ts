/**
 * Who a process is: its number, when it began, and in which run of the machine, because numbers come again. Asked before
 * anything is sent to a process that is not held otherwise, and before a record is believed. A fact that cannot be read
 * is an answer of its own, and it never means that a process may be killed.
 */
import { readFileSync } from 'node:fs';

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
  readonly startTime: number;
}

const LARGEST_PID = 0x7fff_ffff;

let boot: string | null | undefined;

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
    return 'ZXx'.includes(facts.state) ? 'gone' : facts;
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

/** A variable of the environment that the program was started with. Null when that cannot be read. */
export function initialVariable(pid: number, name: string): string | undefined | null {
  try {
    const variables = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
    return variables.find((variable) => variable.startsWith(`${name}=`))?.slice(name.length + 1);
  } catch {
    return null;
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

function parse(stat: string): ProcessFacts | null {
  // The command's name may hold anything, parentheses included.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, parent, group] = fields;
  const startTime = Number(fields[19]);
  if (state === undefined || !Number.isSafeInteger(startTime)) return null;
  return { state, parent: Number(parent), group: Number(group), startTime };
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
