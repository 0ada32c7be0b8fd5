/**
 * Deadlines of others, seen by a monitor that may have stood still itself (a stopped process, a frozen machine): what it
 * finds overdue then has perhaps been done long ago, and is not heard yet. So it listens for a while before it judges.
 */
import type { Loop } from '../../process/loop.ts';
import { monotonic } from '../scoreboard.ts';

/** A look that comes so much too late was not the others' fault. ms */
const STALL = 1000;
const LONGEST = 5 * STALL;

/** How long nobody is judged by a monitor that comes so much too late. ms */
export function pardon(late: number): number {
  return late > STALL ? Math.min(late, LONGEST) : 0;
}

/** Calls back once, after `ms` in which we were there to see what is waited for. */
export function deadline(loop: Loop, ms: number, overdue: () => void): Disposable {
  const due = monotonic() + ms;
  let timer: Disposable = loop.watchTime({ after: ms }, () => {
    const more = pardon(monotonic() - due);
    if (more === 0) overdue();
    else timer = deadline(loop, more, overdue);
  });
  return { [Symbol.dispose]: () => timer[Symbol.dispose]() };
}
