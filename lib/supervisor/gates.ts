/**
 * Gates: what must be free before a service is started again. A pid that is gone does not say that its port can be
 * bound, that its children have let go of its files, or that a registry has noticed: so a start waits for the resources
 * themselves, each with a limit, and says what it waited for, for how long, and who was in the way.
 *
 * Used by a service's starter. Looks, waits and reports; ends nobody, removes nothing.
 */

import { lstatSync } from 'node:fs';
import { stateError } from '../sys/errors.ts';
import { close, connect, ECONNREFUSED, ENOENT, socket } from '../sys/index.ts';
import { isShortage, shortage } from './attempt.ts';
import type { Clock } from './clock.ts';
import { unlessAborted } from './health.ts';
import { commandOf, factsOf, initialVariable } from './identity.ts';
import type { HeldSockets } from './listen.ts';
import { portHolders, portProblem, WILDCARDS } from './ports.ts';
import { lockHolders } from './state.ts';

/** `wait`: go on waiting, however long. `fail`: do not start. `proceed`: start all the same, with a warning. */
export type GatePolicy = 'wait' | 'fail' | 'proceed';

/** Who is in the way. `ours`: it belongs to a run of this service, and is on its way out; null: nobody can say. */
export interface Holder {
  readonly pid: number;
  readonly command: string;
  readonly ours: boolean | null;
}

/** Why a gate is closed: in words, and by whom, if that is known. */
export interface Obstacle {
  readonly reason: string;
  readonly holders: readonly Holder[];
  /** It could not be looked at: we, or the machine, have too little of something. */
  readonly isShortage?: boolean;
}

export interface Gate {
  /** `port 6390`, `lock`, … */
  readonly name: string;
  /** Null when it is open. What throws or does not answer is closed. Aborted: nobody waits for the answer any more. */
  look(signal: AbortSignal): Obstacle | null | Promise<Obstacle | null>;
  /** Who holds what it is about; a look around that is not done in every round. */
  holders?(): readonly Holder[];
  /** ms; default: the wait's own. */
  readonly within?: number;
  readonly onTimeout?: GatePolicy;
}

export interface Blocked extends Obstacle {
  readonly gate: string;
  /** ms so far, or until it opened. */
  readonly waited: number;
}

export interface GateReport {
  /** ms until all were open, or it went on all the same. */
  readonly waited: number;
  /** Every gate that was closed at some time. */
  readonly blocked: readonly Blocked[];
  /** Gates that it went past although they were closed. */
  readonly passed: readonly string[];
}

export interface GateWait {
  readonly gates: readonly Gate[];
  readonly within: number;
  readonly onTimeout: GatePolicy;
  readonly clock: Clock;
  /** Ends the wait, which is then rejected with its reason. */
  readonly signal?: AbortSignal;
  /** A gate was found closed for the first time; and each time that it is closed for another reason. */
  readonly onBlocked?: (blocked: Blocked) => void;
}

/** How soon to look again: at once at first, because most of what is on its way out is out in a moment. */
const FIRST_PAUSE = 5;
const LONGEST_PAUSE = 250;

interface Entry {
  readonly gate: Gate;
  /** When it was first found closed in the stretch that lasts. */
  since: number | null;
  waited: number;
  obstacle: Obstacle | null;
  last: Obstacle | null;
  passed: boolean;
}

/**
 * Waits until all gates are open in one and the same round. Rejected with ERR_FORKBEARD_GATE (`gate`, `waited`,
 * `obstacle`) when one with the policy `fail` has been closed for too long.
 */
export async function passGates(wait: GateWait): Promise<GateReport> {
  const { clock, signal } = wait;
  const began = clock.now();
  const entries = wait.gates.map(
    (gate): Entry => ({ gate, since: null, waited: 0, obstacle: null, last: null, passed: false }),
  );
  for (let pause = FIRST_PAUSE; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
    signal?.throwIfAborted();
    await Promise.all(entries.map((entry) => look(entry, wait)));
    signal?.throwIfAborted();
    const closed = entries.filter((entry) => entry.obstacle !== null && !entry.passed);
    if (closed.length === 0) return report(entries, began, clock.now());
    const limit = Math.min(...closed.map((entry) => settleOverdue(entry, wait)));
    if (closed.some((entry) => !entry.passed)) await rest(clock, Math.max(0, Math.min(pause, limit)), signal);
  }
}

async function look(entry: Entry, wait: GateWait): Promise<void> {
  if (entry.passed) return;
  const { clock } = wait;
  const obstacle = await answer(entry, wait);
  if (wait.signal?.aborted) return;
  const now = clock.now();
  if (obstacle === null) {
    if (entry.since !== null) entry.waited += now - entry.since;
    entry.since = null;
    entry.obstacle = null;
    return;
  }
  entry.since ??= now;
  const isNews = entry.last?.reason !== obstacle.reason;
  const holders =
    obstacle.holders.length > 0
      ? obstacle.holders
      : isNews
        ? around(entry.gate)
        : (entry.last?.holders ?? []);
  const { reason, isShortage = false } = obstacle;
  entry.obstacle = entry.last = { reason, holders, ...(isShortage ? { isShortage } : {}) };
  if (isNews) wait.onBlocked?.(blockedBy(entry, now));
}

/** What a gate says within its own limit; one that says nothing is closed. */
async function answer(entry: Entry, wait: GateWait): Promise<Obstacle | null> {
  const asking = new AbortController();
  try {
    const said = entry.gate.look(asking.signal);
    if (!(said instanceof Promise)) return said;
    return await inTime(said, asking, patience(entry, wait), wait);
  } catch (error) {
    if (asking.signal.aborted) return { reason: 'it does not answer', holders: [] };
    const reason = `it failed: ${error instanceof Error ? error.message : String(error)}`;
    return { reason, holders: [], isShortage: isShortage(error) };
  }
}

/** Who goes on beyond the limit asks as patiently there as before: an answer that takes time would never be heard. */
function patience({ gate, since }: Entry, { clock, within, onTimeout }: GateWait): number {
  const limit = gate.within ?? within;
  if (since === null || (gate.onTimeout ?? onTimeout) === 'wait') return limit;
  return Math.max(0, limit - (clock.now() - since));
}

async function inTime<T>(
  said: Promise<T>,
  asking: AbortController,
  ms: number,
  { clock, signal }: GateWait,
): Promise<T> {
  const giveUp = () => asking.abort();
  const timer = clock.after(ms, giveUp);
  signal?.addEventListener('abort', giveUp);
  try {
    return await unlessAborted(said, asking.signal);
  } finally {
    timer[Symbol.dispose]();
    signal?.removeEventListener('abort', giveUp);
  }
}

function around(gate: Gate): readonly Holder[] {
  try {
    return gate.holders?.() ?? [];
  } catch {
    return [];
  }
}

/** Applies the policy of a gate whose time is over. Returns the ms that it has left. */
function settleOverdue(entry: Entry, { clock, within, onTimeout }: GateWait): number {
  const { gate } = entry;
  const waited = entry.waited + clock.now() - (entry.since as number);
  const left = (gate.within ?? within) - waited;
  const policy = gate.onTimeout ?? onTimeout;
  if (left > 0) return left;
  if (policy === 'wait') return Number.POSITIVE_INFINITY;
  if (policy === 'proceed') {
    entry.passed = true;
    return Number.POSITIVE_INFINITY;
  }
  const obstacle = entry.obstacle as Obstacle;
  const error = stateError(
    'GATE',
    `Gate "${gate.name}" was closed for ${Math.round(waited)} ms: ${obstacle.reason}${named(obstacle.holders)}`,
  );
  throw Object.assign(error, { gate: gate.name, waited, obstacle });
}

function named(holders: readonly Holder[]): string {
  if (holders.length === 0) return '';
  const names = holders.map(({ pid, command, ours }) => {
    const whose = ours === null ? '' : ours ? ', ours' : ', a stranger';
    return `${pid} ${command}${whose}`;
  });
  return ` (${names.join('; ')})`;
}

function blockedBy(entry: Entry, now: number): Blocked {
  const waited = entry.waited + (entry.since === null ? 0 : now - entry.since);
  return { gate: entry.gate.name, waited, ...(entry.last as Obstacle) };
}

function report(entries: readonly Entry[], began: number, now: number): GateReport {
  return {
    waited: now - began,
    blocked: entries.filter(({ last }) => last !== null).map((entry) => blockedBy(entry, now)),
    passed: entries.filter(({ passed }) => passed).map(({ gate }) => gate.name),
  };
}

function rest(clock: Clock, ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const wake = () => {
      timer[Symbol.dispose]();
      signal?.removeEventListener('abort', wake);
      resolve();
    };
    const timer = clock.after(ms, wake);
    signal?.addEventListener('abort', wake);
  });
}

// ------------------------------------------------------------------------------------------- the gates there are

/**
 * A port can be bound on the addresses that the service listens on (default: all of both families). `runIds`: who
 * carries one of them belongs to this service.
 */
export function portGate(
  port: number,
  hosts: readonly string[] = WILDCARDS,
  runIds: () => readonly string[] = none,
  held?: HeldSockets,
): Gate {
  return {
    name: hosts === WILDCARDS ? `port ${port}` : `port ${hosts.join(', ')}:${port}`,
    look: () => {
      const code = portProblem(port, hosts);
      if (code === null || (code === 'EADDRINUSE' && held?.areAllOn(port))) return null;
      return { reason: code, holders: [], isShortage: isShortage(shortage(code)) };
    },
    holders: () => holdersOf(port, runIds()),
  };
}

export function holdersOf(port: number, runIds: readonly string[]): Holder[] {
  return (portHolders(port) ?? []).map(({ pid }) => holder(pid, runIds));
}

/** Nobody holds the lock. Where the system does not tell, the shim will see for itself. */
export function lockGate(path: string, runIds: () => readonly string[] = none): Gate {
  return {
    name: 'lock',
    look: () => {
      const pids = lockHolders(path) ?? [];
      if (pids.length === 0) return null;
      return { reason: `${path} is held`, holders: pids.map((pid) => holder(pid, runIds())) };
    },
  };
}

/** Nothing of the service's last run is left. `left`: its pids. */
export function groupGate(left: () => readonly number[]): Gate {
  return {
    name: 'group',
    look: () => {
      const pids = left().filter((pid) => factsOf(pid) !== 'gone');
      if (pids.length === 0) return null;
      const holders = pids.map((pid) => ({ pid, command: commandOf(pid), ours: true }));
      return { reason: 'processes of the last run are left', holders };
    },
  };
}

/** Nobody answers at a unix socket. A file that nobody listens on any more is the service's to remove. */
export function socketGate(path: string, held?: HeldSockets): Gate {
  return {
    name: `socket ${path}`,
    look: () => {
      if (held?.has(path)) return null;
      const fd = socket('unix', 'stream');
      try {
        const errno = connect(fd, { path });
        if (errno === -ENOENT || errno === -ECONNREFUSED) return null;
        // Others, too, are answers of somebody: a full queue, another type of socket, no right to connect.
        return { reason: 'somebody listens', holders: [] };
      } finally {
        close(fd);
      }
    },
  };
}

/** Anything: a registry's entry, a file, a leader's election. True is open; what throws, hangs or is false is closed. */
export function predicateGate(name: string, isOpen: () => boolean | Promise<boolean>): Gate {
  const obstacle = (open: boolean): Obstacle | null =>
    open === true ? null : { reason: 'it says no', holders: [] };
  return {
    name,
    look: () => {
      const open = isOpen();
      return open instanceof Promise ? open.then(obstacle) : obstacle(open);
    },
  };
}

/** There is such a file, or there is none: what a registry, or another program, puts somewhere and takes away. */
export function pathGate(path: string, is: 'absent' | 'present'): Gate {
  return {
    name: `path ${path}`,
    look: () => {
      const there = lstatSync(path, { throwIfNoEntry: false }) !== undefined;
      if (there === (is === 'present')) return null;
      return { reason: there ? 'it is there' : 'it is not there', holders: [] };
    },
  };
}

/** A program ends with 0. */
export function programGate(command: readonly [string, ...string[]], run: GateAround['ask']): Gate {
  return {
    name: `exec ${command.join(' ')}`,
    look: async (signal) => {
      const problem = await run(command, signal);
      return problem === null ? null : { reason: problem, holders: [] };
    },
  };
}

/** A gate as it is configured. */
export type GateSpec = (
  | { readonly port: number; readonly host?: string | readonly string[] }
  | { readonly group: 'empty' }
  | { readonly lock: 'free' }
  | { readonly unix: string }
  | { readonly path: string; readonly is: 'absent' | 'present' }
  | { readonly exec: readonly [string, ...string[]] }
  | { readonly check: () => boolean | Promise<boolean>; readonly name: string }
) & { readonly within?: number; readonly onTimeout?: GatePolicy };

/** What gates of a service need to know of it. */
export interface GateAround {
  readonly lock: string;
  /** It runs as another supervisor's: then its lock is in nobody's way, it is joined. */
  readonly isRunning: () => boolean;
  readonly runIds: () => readonly string[];
  /** Pids of its last run. */
  readonly left: () => readonly number[];
  /** Asks a program, in the service's environment, and ends it with the signal. Null is yes. */
  readonly ask: (command: readonly [string, ...string[]], signal: AbortSignal) => Promise<string | null>;
  /** What it gets from us is in nobody's way. */
  readonly held?: HeldSockets;
}

export function gateOf(spec: GateSpec, around: GateAround): Gate {
  const { within, onTimeout } = spec;
  const limits = {
    ...(within === undefined ? {} : { within }),
    ...(onTimeout === undefined ? {} : { onTimeout }),
  };
  return { ...plainGate(spec, around), ...limits };
}

function plainGate(spec: GateSpec, { lock, isRunning, runIds, left, ask, held }: GateAround): Gate {
  if ('port' in spec) {
    const hosts = spec.host === undefined ? WILDCARDS : [spec.host].flat();
    return portGate(spec.port, hosts, runIds, held);
  }
  if ('group' in spec) return groupGate(left);
  if ('lock' in spec) {
    const gate = lockGate(lock, runIds);
    return { ...gate, look: (signal) => (isRunning() ? null : gate.look(signal)) };
  }
  if ('unix' in spec) return socketGate(spec.unix, held);
  if ('path' in spec) return pathGate(spec.path, spec.is);
  if ('exec' in spec) return programGate(spec.exec, ask);
  return predicateGate(spec.name, spec.check);
}

const none = (): readonly string[] => [];

function holder(pid: number, runIds: readonly string[]): Holder {
  const runId = initialVariable(pid, 'FORKBEARD_RUN_ID');
  const ours = runId === null ? null : runId !== undefined && runIds.includes(runId);
  return { pid, command: commandOf(pid), ours };
}
