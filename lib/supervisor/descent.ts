/** How what there is of a service ends: because somebody wants that, or because its first process has ended. Used by a starter. */
import { unlessAborted } from './health.ts';
import type { Life } from './life.ts';
import type { RunEnd } from './run.ts';
import type { StopReport } from './service-options.ts';

export const AT_ONCE = [{ signal: 'KILL', wait: 10_000 }];

/** After the end of the first process: ends the rest. */
export async function settle(life: Life, signal: AbortSignal): Promise<RunEnd> {
  const { run } = life;
  if (run === null) throw new Error(`Service ${life.name} does not run`);
  life.checkup?.stop();
  // Who cannot be seen may be there, and gets what he would get.
  if (!run.isOver && (run.left.length > 0 || run.unseen !== null)) {
    life.enter('settling');
    void run.stop(life.options.stop);
  }
  const end = await unlessAborted(run.over, signal);
  life.forget();
  return end;
}

/** What is another supervisor's is let go of, and goes on. */
export async function bringDown(life: Life): Promise<StopReport> {
  const { run, other } = life;
  other?.stop();
  life.other = null;
  if (run === null) {
    const elsewhere = other === null ? {} : { elsewhere: other.record.pid };
    return { exit: null, steps: [], survivors: [], ...elsewhere };
  }
  life.checkup?.stop();
  if (!run.isOver) {
    if (life.state !== 'stopping') life.enter('stopping');
    await run.stop(life.isHurried ? AT_ONCE : life.options.stop);
  }
  const { exit, steps } = run;
  if (!run.isOver) return { exit, steps, survivors: run.left };
  life.forget();
  return { exit, steps, survivors: [] };
}

/** A stop that nobody asked for. What cannot be ended now is waited for: there are never two. */
export async function bringToAnEnd(life: Life, signal: AbortSignal): Promise<void> {
  await bringDown(life);
  if (life.run === null) return;
  await unlessAborted(life.run.over, signal);
  life.forget();
}
