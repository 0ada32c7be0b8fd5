/**
 * A look for processes of this state directory that nobody looks after: no shim of their run is left, nor does one hold
 * their service's lock. Done when a supervisor starts and when it has stopped all. There should be none, ever; who is found is ended, as
 * far as orphans.ts allows, and told of.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { isShortage } from './attempt.ts';
import { type Identity, initialVariable } from './identity.ts';
import { endRun, type Orphan, pidsOfRun } from './orphans.ts';
import { lockHolders, NAME, type StateDirectory } from './state.ts';

/** By service. `onUnseen`: there may be more, which cannot be seen for want of that. */
export function sweep(
  state: StateDirectory,
  onUnseen: (code: string) => void = () => {},
): Map<string, Orphan[]> {
  const found = new Map<string, Orphan[]>();
  const look = (service: string, runId: string, first: Identity | null) => {
    if (isLookedAfter(state, service, runId)) return;
    const orphans = endRun(runId, first);
    if (orphans.length > 0) found.set(service, [...(found.get(service) ?? []), ...orphans]);
  };
  try {
    for (const [runId, service] of runsOf(state)) look(service, runId, null);
    // Who has no environment any more is known by his group alone, and that by its record.
    for (const service of state.services()) {
      const { verdict, record } = state.find(service);
      if (verdict === 'stale' && record !== null) look(service, record.runId, record);
    }
  } catch (error) {
    if (!isShortage(error)) throw error;
    onUnseen((error as NodeJS.ErrnoException).code as string);
  }
  return found;
}

/** Runs of which there are processes, with their services. */
function runsOf({ path }: StateDirectory): Map<string, string> {
  const runs = new Map<string, string>();
  let entries: string[];
  try {
    entries = readdirSync('/proc');
  } catch (error) {
    if (isShortage(error)) throw error;
    return runs;
  }
  for (const entry of entries) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    if (initialVariable(pid, 'FORKBEARD_STATE_DIR') !== path) continue;
    const runId = initialVariable(pid, 'FORKBEARD_RUN_ID');
    const service = initialVariable(pid, 'FORKBEARD_SERVICE');
    // What says who it is only in part is not taken for anything.
    if (runId && service && NAME.test(service)) runs.set(runId, service);
  }
  // We may be a service ourselves, of a supervisor with the same directory.
  runs.delete(process.env['FORKBEARD_RUN_ID'] ?? '');
  return runs;
}

/** Also when that cannot be said. */
function isLookedAfter(state: StateDirectory, service: string, runId: string): boolean {
  const { lock } = state.of(service);
  const holders = lockHolders(lock);
  if (holders === null) return true;
  if (holders.some((pid) => (initialVariable(pid, 'FORKBEARD_RUN_ID') ?? runId) === runId)) return true;
  // It may hold one that was removed, of which this is not the file any more.
  return pidsOfRun(runId).some(isShim);
}

/** By the name of its program. Whoever borrows it is spared, and no more than that. */
function isShim(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'latin1').startsWith('forkbeard-shim');
  } catch {
    return false;
  }
}
