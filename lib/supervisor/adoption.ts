/**
 * What of a service runs already, before it is started: nothing, an instance that has lost its supervisor and is taken
 * over, one that has another (also one whose lock was removed), or processes whose shim was killed, which are ended. Asked by a service's starter.
 *
 * Believed is only what nobody else could have put there: the directory is ours, the record's facts are compared with the
 * process, and who listens at the socket holds the lock.
 */
import type { Loop } from '../process/loop.ts';
import { stateError } from '../sys/errors.ts';
import { refusal } from './attempt.ts';
import { type Clock, clockOf } from './clock.ts';
import { sleep, unlessAborted } from './health.ts';
import { endRun, type Orphan } from './orphans.ts';
import { Run, type RunEvents } from './run.ts';
import { lockFile, type ServiceRecord, type StateDirectory } from './state.ts';
import { findUntraced } from './untraced.ts';

export type Found =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'adopted'; readonly run: Run; readonly record: ServiceRecord | null }
  /** `supervisor`: whose it is, where that is known. */
  | {
      readonly kind: 'elsewhere';
      readonly record: ServiceRecord;
      readonly supervisor: number | null;
      /** Its lock is not at its path any more. */
      readonly isUntraced?: boolean;
    }
  /** It ran without a shim, and was ended as far as that may be done. */
  | { readonly kind: 'orphaned'; readonly record: ServiceRecord; readonly orphans: readonly Orphan[] };

export interface Search {
  readonly loop: Loop;
  readonly state: StateDirectory;
  readonly clock?: Clock | undefined;
  readonly events: RunEvents;
  readonly signal: AbortSignal;
  /** Which file our last run had as its lock. While it is that one, whoever runs holds it. */
  readonly lastLock?: string | null;
}

/** A shim that does not say who it is within this, ms, is kept from it, and left alone. */
const SAYING = 10_000;
/** How soon to ask again one whose end another supervisor is about to hear. */
const AGAIN = 5;

export async function findRunning(service: string, search: Search): Promise<Found> {
  const { loop, state, signal } = search;
  const clock = search.clock ?? clockOf(loop);
  const limit = clock.now() + SAYING;
  for (;;) {
    const { verdict, record } = state.find(service);
    if (verdict === 'orphaned' && record !== null) {
      return { kind: 'orphaned', record, orphans: endRun(record.runId, record) };
    }
    const elsewhere = (supervisor: number | null): Found =>
      verdict === 'running' && record !== null
        ? { kind: 'elsewhere', record, supervisor }
        : { kind: 'nothing' };
    try {
      return { kind: 'adopted', run: await adopt(service, search, clock), record };
    } catch (error) {
      signal.throwIfAborted();
      const { code, supervisor = 0 } = error as NodeJS.ErrnoException & { supervisor?: number };
      if (verdict === 'running')
        return elsewhere(
          code !== 'ERR_FORKBEARD_BUSY'
            ? (record?.supervisor?.pid ?? null)
            : supervisor > 0
              ? supervisor
              : null,
        );
      if (code !== 'ERR_FORKBEARD_BUSY') {
        const { lock } = state.of(service);
        const isKnown = search.lastLock != null && lockFile(lock) === search.lastLock;
        const other = isKnown ? null : findUntraced(state, service);
        if (other === null) return { kind: 'nothing' };
        const { record, parent, shim } = other;
        if (record !== null)
          return { kind: 'elsewhere', record, supervisor: parent > 1 ? parent : null, isUntraced: true };
        if (clock.now() >= limit) {
          const text = `The shim of another instance (pid ${shim}) is there, and its lock was removed`;
          throw refusal(stateError('LOCKED', text));
        }
      } else if (clock.now() >= limit) return { kind: 'nothing' };
    }
    await sleep(clock, AGAIN, signal);
  }
}

/** Rejected when there is no shim, or it has a supervisor. */
async function adopt(service: string, { loop, state, events, signal }: Search, clock: Clock): Promise<Run> {
  const run = Run.adopt(loop, state.of(service).socket, (peer) => state.isShim(service, peer), events);
  const late = new AbortController();
  const timer = clock.after(SAYING, () => late.abort(new Error('The shim does not answer')));
  try {
    await unlessAborted(run.started, AbortSignal.any([signal, late.signal]));
    return run;
  } catch (error) {
    run.shim.disconnect();
    throw error;
  } finally {
    timer[Symbol.dispose]();
  }
}
