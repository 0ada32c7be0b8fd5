/**
 * Instances of a service whose lock is not at its path any more, because somebody has cleared the state directory away or
 * put another in its place: found by the mark of their shims, before a starter that comes upon a new lock takes that for
 * leave to start a second one. Asked by adoption.ts. Sends nothing to anybody.
 */
import { readdirSync, readFileSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { isShortage } from './attempt.ts';
import { bootId, commandOf, factsOf, initialVariable, type ProcessFacts } from './identity.ts';
import { lockHolders, type ServiceRecord, type StateDirectory } from './state.ts';

export interface Untraced {
  readonly shim: number;
  /** Null when nothing of the service is seen: its shim is on its way out, or has only begun. */
  readonly record: ServiceRecord | null;
  /** Who started the shim, or took it over. */
  readonly parent: number;
}

interface Marked {
  readonly pid: number;
  readonly folder: string;
  readonly service: string;
}

let seen: readonly Marked[] | null = null;

/** Null when there is none. Throws what we lack to see that. */
export function findUntraced(state: StateDirectory, service: string): Untraced | null {
  const { lock } = state.of(service);
  for (const { pid, folder, service: of } of markedShims()) {
    if (of !== service || !isSame(folder, state.path)) continue;
    const facts = factsOf(pid);
    if (typeof facts === 'string') continue;
    // That one is found where it belongs.
    if (lockHolders(lock)?.includes(pid)) continue;
    const record = recordOf(service, pid, facts);
    // One that has let go of its lock has nothing left of the service: it only waits for a supervisor that does not read.
    if (record === null && !hasLock(pid, service)) continue;
    return { shim: pid, record, parent: facts.parent };
  }
  return null;
}

/** Looked for once in a turn of the loop, however many services are started in it. */
function markedShims(): readonly Marked[] {
  if (seen !== null) return seen;
  const found: Marked[] = [];
  for (const pid of processes()) {
    if (!isShim(pid)) continue;
    const mark = initialVariable(pid, 'FORKBEARD_SHIM_OF');
    if (mark) found.push({ pid, folder: dirname(mark), service: basename(mark) });
  }
  seen = found;
  setImmediate(() => {
    seen = null;
  }).unref();
  return found;
}

function processes(): number[] {
  try {
    return readdirSync('/proc')
      .map(Number)
      .filter((pid) => Number.isInteger(pid) && pid !== process.pid);
  } catch (error) {
    if (isShortage(error)) throw error;
    return [];
  }
}

/** By the name of its program; of our user, who alone may say what is in our directory. */
function isShim(pid: number): boolean {
  try {
    if (!readFileSync(`/proc/${pid}/comm`, 'latin1').startsWith('forkbeard-shim')) return false;
    return statSync(`/proc/${pid}`).uid === process.geteuid?.();
  } catch (error) {
    if (isShortage(error)) throw error;
    return false;
  }
}

/** Also when that cannot be said. */
function hasLock(shim: number, service: string): boolean {
  try {
    const folder = `/proc/${shim}/fd`;
    return readdirSync(folder).some((fd) => {
      const path = linkOf(`${folder}/${fd}`).replace(/ \(deleted\)$/, '');
      return basename(path) === `${service}.lock`;
    });
  } catch (error) {
    if (isShortage(error)) throw error;
    return factsOf(shim) !== 'gone';
  }
}

/** Empty when it was closed meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}

function isSame(one: string, other: string): boolean {
  if (one === other) return true;
  try {
    return realpathSync(one) === realpathSync(other);
  } catch {
    return false;
  }
}

/** As its shim had written it down. */
function recordOf(service: string, shim: number, { startTime }: ProcessFacts): ServiceRecord | null {
  let first: { pid: number; facts: ProcessFacts } | null = null;
  for (const pid of processes()) {
    const facts = factsOf(pid);
    if (typeof facts === 'string' || facts.parent !== shim) continue;
    if (first === null || facts.startTime < first.facts.startTime) first = { pid, facts };
  }
  if (first === null) return null;
  const { pid, facts } = first;
  return {
    service,
    runId: initialVariable(shim, 'FORKBEARD_RUN_ID') || 'unknown',
    bootId: bootId(),
    command: [commandOf(pid)],
    pid,
    startTime: facts.startTime,
    groupId: facts.group,
    shim: { pid: shim, startTime },
  };
}
