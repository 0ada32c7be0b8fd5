/**
 * The last resort: processes that carry a run's id in their environment although their shim is gone. The normal result
 * is none; whatever is found is evidence of something that went wrong, and is handed back as such. Only what is surely of
 * that run is ended: its id, our user, and a pidfd that was opened before all of it was read. Without pidfds nobody is.
 *
 * Servers that give themselves a title write it over their environment (nginx's workers, PostgreSQL's, Redis). They are
 * known by their process group: its number is nobody else's while one of it lives.
 */
import { readdirSync, statSync } from 'node:fs';
import { nativeChild } from '../process/native.ts';
import { signalNumber } from '../sys/signals.ts';
import { isShortage } from './attempt.ts';
import { commandOf, factsOf, hasNoEnvironment, type Identity, initialVariable, match } from './identity.ts';

export interface Orphan {
  readonly pid: number;
  readonly command: string;
  readonly runId: string;
  readonly startTime: number;
  /** Why it was let live, if it was. */
  readonly spared: string | null;
}

/**
 * Living processes of that run. This process is never one of them. Throws what we lack to see them. `first`: what was
 * written down as its first process, whose number is its group's.
 */
export function pidsOfRun(runId: string, first: Identity | null = null): number[] {
  let entries: string[];
  try {
    entries = readdirSync('/proc');
  } catch (error) {
    if (isShortage(error)) throw error;
    return [];
  }
  return entries
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid && isOf(pid, runId, first));
}

function isOf(pid: number, runId: string, first: Identity | null): boolean {
  const named = initialVariable(pid, 'FORKBEARD_RUN_ID');
  if (named === runId) return factsOf(pid) !== 'gone';
  return named === undefined && first !== null && isOfGroup(pid, first) && hasNoEnvironment(pid);
}

/** Of the group that this process leads or led. Not when its number has become another's, whose group it would be then. */
function isOfGroup(pid: number, first: Identity): boolean {
  const facts = factsOf(pid);
  if (typeof facts === 'string' || facts.group !== first.pid) return false;
  if (first.startTime === null || first.bootId === null || facts.startTime < first.startTime) return false;
  return ['same', 'gone'].includes(match(first));
}

/**
 * SIGKILL to all that is left of a run, as far as it can be seen, and to what they start meanwhile. `first`: a process that was written down as its
 * first one, whatever has become of its environment since.
 */
export function endRun(runId: string, first: Identity | null = null): Orphan[] {
  // We are one of it, and so is who started us.
  if (runId === process.env['FORKBEARD_RUN_ID']) return [];
  const found = new Map<number, Orphan>();
  if (first !== null && first.pid !== process.pid) {
    const orphan = end(first.pid, runId, () => match(first) === 'same');
    if (orphan !== null) found.set(first.pid, orphan);
  }
  // Who is told may have made another one before he heard it.
  for (let turn = 0; turn < 10; turn++) {
    const news = seenOf(runId, first).filter((pid) => !found.has(pid));
    if (news.length === 0) break;
    for (const pid of news) {
      const orphan = end(pid, runId, () => isOf(pid, runId, first));
      if (orphan !== null) found.set(pid, orphan);
    }
  }
  return [...found.values()];
}

function seenOf(runId: string, first: Identity | null): number[] {
  try {
    return pidsOfRun(runId, first);
  } catch {
    return [];
  }
}

/** Null when it is none after all. */
function end(pid: number, runId: string, isIt: () => boolean): Orphan | null {
  const native = nativeChild();
  const pidfd = native.open(pid);
  try {
    // From here on the pidfd is that process or nobody; what is read now and is true of it, is true of whom we signal.
    const facts = factsOf(pid);
    if (facts === 'gone' || !isIt()) return null;
    const orphan = {
      pid,
      command: commandOf(pid),
      runId,
      startTime: facts === 'unreadable' ? -1 : facts.startTime,
    };
    if (facts === 'unreadable') return { ...orphan, spared: 'its start time cannot be read' };
    if (pidfd < 0) return { ...orphan, spared: 'it cannot be told from a later process with its number' };
    if (ownerOf(pid) !== process.geteuid?.()) return { ...orphan, spared: 'it is another user’s' };
    const errno = native.signal(pid, pidfd, signalNumber('SIGKILL'));
    return { ...orphan, spared: errno < 0 ? `it cannot be signalled (${errno})` : null };
  } catch (error) {
    // Who cannot be seen is left alone.
    if (isShortage(error)) return null;
    throw error;
  } finally {
    if (pidfd >= 0) native.close(pidfd);
  }
}

function ownerOf(pid: number): number | null {
  try {
    return statSync(`/proc/${pid}`).uid;
  } catch {
    return null;
  }
}
