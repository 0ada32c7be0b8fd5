/** Wait statuses, made readable. */
import { signalName } from '../sys/signals.ts';
import type { ExitStatus } from './contract.ts';

const SIGNAL_BITS = 0x7f;
const CORE_BIT = 0x80;

/** What the raw wait status of `pid` says. */
export function exitStatus(pid: number, status: number): ExitStatus {
  const number = status & SIGNAL_BITS;
  return Object.freeze({
    pid,
    exitCode: number === 0 ? (status >> 8) & 0xff : null,
    signal: number === 0 ? null : signalName(number),
    coreDumped: (status & CORE_BIT) !== 0,
    status,
    stolen: false,
  });
}

/** The end of a process whose status we cannot have: it is no child of ours, or somebody else reaped it (`stolen`). */
export function exitWithoutStatus(pid: number, stolen: boolean): ExitStatus {
  return Object.freeze({ pid, exitCode: null, signal: null, coreDumped: false, status: null, stolen });
}
