/**
 * The program of molds and of spawned workers. The first message of the monitor says which of them this process is; until
 * then it has done nothing. Run by the monitor only, with the descriptors of inheritance.ts.
 */
import { fstatSync } from 'node:fs';
import { outliveTerminal } from '../../daemon/lost-terminal.ts';
import { Loop } from '../../process/loop.ts';
import { mapSharedMemory } from '../../process/shared-memory.ts';
import { Channel } from '../channel.ts';
import { EXIT } from '../exit-codes.ts';
import type { FromMold, FromWorker, ToMold, ToWorker } from '../messages.ts';
import type { Plan } from '../plan.ts';
import { Scoreboard } from '../scoreboard.ts';
import { Application } from './application.ts';
import { BOARD, CHANNEL, FIRST_LISTENER } from './inheritance.ts';
import { Mold } from './mold.ts';
import { dieWithParent, takeUp } from './surroundings.ts';
import { Worker } from './worker.ts';

interface Role {
  onMessage(message: ToMold | ToWorker, descriptors: number[]): void;
  onEnd(): void;
}

outliveTerminal();
const loop = Loop.current();
const board = new Scoreboard(mapSharedMemory(BOARD, fstatSync(BOARD).size));
let role: Role | undefined;

const channel = new Channel<ToMold | ToWorker, FromMold | FromWorker>(loop, CHANNEL, {
  onMessage(message, descriptors) {
    if (role === undefined) role = take(message);
    else role.onMessage(message, descriptors);
  },
  onEnd() {
    if (role === undefined) process.exit(EXIT.lostMonitor);
    role.onEnd();
  },
});

function take(message: ToMold | ToWorker): Role {
  if (message.type === 'be-mold') {
    const { plan, title } = message;
    const mold = new Mold({
      loop,
      channel: channel as Channel<ToMold, FromMold>,
      board,
      listeners: listenersOf(plan),
      plan,
      title,
      load: () => load(plan, dieWithParent),
    });
    void mold.start();
    return mold as Role;
  }
  if (message.type === 'be-worker') {
    const { plan, place } = message;
    const worker = new Worker({
      loop,
      channel: channel as Channel<ToWorker, FromWorker>,
      board,
      listeners: listenersOf(plan),
      plan,
      place,
      method: 'spawn',
      application: () => load(plan),
    });
    void worker.start();
    return worker as Role;
  }
  throw new Error(`Not the first message of a monitor: ${message.type}`);
}

function listenersOf(plan: Plan): number[] {
  return plan.listen.map((_, index) => FIRST_LISTENER + index);
}

async function load(plan: Plan, settled = () => {}): Promise<Application> {
  takeUp(plan);
  settled();
  return Application.load(plan.application);
}
