/**
 * Who is whose child: `becomeSubreaper` makes this process the parent of orphans, `setParentDeathSignal` ends it with
 * its parent. Both belong to the process as a whole, so they are the main thread's to call. Linux and FreeBSD have them;
 * elsewhere they throw ENOSYS.
 */
import { isMainThread } from 'node:worker_threads';
import { addon } from '../native.ts';
import { check, checkInteger, mainThreadOnly } from '../sys/errors.ts';
import { signalNumber } from '../sys/signals.ts';
import type { SignalName } from './contract.ts';

const MAX_PID = 0x7fff_ffff;

interface NativeLineage {
  becomeSubreaper(): number;
  setParentDeathSignal(number: number): number;
  parent(): number;
}

let loaded: NativeLineage | undefined;

function native(): NativeLineage {
  loaded ??= addon<{ lineage: NativeLineage }>().lineage;
  return loaded;
}

/**
 * From now on this process is the parent of every descendant whose parent ends, instead of init: they must be reaped
 * here. Not inherited by forked children. May be called any number of times.
 */
export function becomeSubreaper(): void {
  if (!isMainThread) throw mainThreadOnly('becomeSubreaper()');
  check(native().becomeSubreaper(), 'prctl', { step: 'PR_SET_CHILD_SUBREAPER' });
}

/**
 * The signal that this process gets when its parent ends; 0 for none. True when the parent still is
 * `expectedParentPid`. False: it has ended before (or never was our parent), and the signal will not come for it. Not
 * inherited by children; lost when this process executes a program that changes its user.
 */
export function setParentDeathSignal(signal: SignalName | number, expectedParentPid: number): boolean {
  const number = signal === 0 ? 0 : signalNumber(signal);
  // 0: a parent outside our pid namespace.
  checkInteger(expectedParentPid, 'expectedParentPid', 0, MAX_PID);
  if (!isMainThread) throw mainThreadOnly('setParentDeathSignal()');
  check(native().setParentDeathSignal(number), 'prctl', { step: 'PR_SET_PDEATHSIG' });
  // Afterwards: if it ended before the call, nothing would ever tell us.
  return native().parent() === expectedParentPid;
}
