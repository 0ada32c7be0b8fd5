/**
 * The door of `forkbeard/prefork`: what a program imports.
 */
import type { PreforkOptions, PreforkServer } from './contract.ts';
import { Log } from './log.ts';
import { open } from './open.ts';
import { planOf } from './options/plan-of.ts';
import { checkOptions, PROGRAM } from './options/schema.ts';

export type * from './contract.ts';

/**
 * Starts a prefork server, of which the calling process is the monitor. Rejected, with nothing started, for options that
 * cannot be (`ERR_FORKBEARD_INVALID_OPTION`, `ERR_FORKBEARD_UNKNOWN_OPTION`); `ready` and `closed` of what it gives tell the
 * rest. The process keeps its signals and its exit code: the command obeys the ones and ends with what `closed` gives.
 */
export async function prefork(options: PreforkOptions): Promise<PreforkServer> {
  const checked = checkOptions(options, PROGRAM);
  const plan = planOf(checked);
  const wantsLog = checked.logFormat !== undefined || checked.logFile !== undefined;
  const { server } = await open(plan, { log: wantsLog ? new Log(plan) : undefined });
  return server;
}
