/**
 * A worker that is warm makes a mold of itself: its copy has the code compiled and the caches filled that the workers
 * to come would have to compile and fill each for themselves. The worker serves on; the copy lets go of everything that
 * was a worker's own.
 */
import type { Loop } from '../../process/loop.ts';
import { Channel } from '../channel.ts';
import type { FromMold, ToMold } from '../messages.ts';
import type { Plan } from '../plan.ts';
import type { Scoreboard } from '../scoreboard.ts';
import type { Application } from './application.ts';
import type { Attachment } from './attachment.ts';
import { BOARD } from './inheritance.ts';
import { Mold } from './mold.ts';
import type { Requests } from './requests.ts';
import { dieWithParent } from './surroundings.ts';

/** For a moment without a request, of which the copy would keep what it holds. ms */
const PATIENCE = 1000;

export interface Promotion {
  loop: Loop;
  /** The mold's end of its channel. */
  fd: number;
  board: Scoreboard;
  listeners: readonly number[];
  plan: Plan;
  title: string;
  application: Application;
  requests: Requests;
  attachment: Attachment;
}

/** A good moment for it, if there is one. */
export async function promotable(loop: Loop, requests: Requests): Promise<void> {
  const tooLong = new AbortController();
  await Promise.race([requests.idle, loop.delay(PATIENCE, { signal: tooLong.signal }).catch(() => {})]);
  tooLong.abort();
}

/** The mold's pid. */
export async function promote(promotion: Promotion): Promise<number> {
  const { loop, fd, listeners } = promotion;
  const mold = await loop.fork({
    detached: true,
    inherit: [fd, BOARD, ...listeners],
    // Pools of connections notice, and servers let go of their clients.
    parentHandles: 'close',
    code: (context) => beMold(context.loop, promotion),
  });
  return mold.pid;
}

/** In the copy. */
function beMold(loop: Loop, { fd, board, listeners, plan, title, application, ...worker }: Promotion): void {
  worker.attachment.disown();
  worker.requests.disown();
  delete process.env['FORKBEARD_WORKER'];
  const channel: Channel<ToMold, FromMold> = new Channel(loop, fd, {
    onMessage: (message: ToMold, descriptors) => mold.onMessage(message, descriptors),
    onEnd: () => mold.onEnd(),
  });
  application.settleIn();
  dieWithParent();
  const mold = new Mold({ loop, channel, board, listeners, plan, title, load: async () => application });
  void mold.start();
}
