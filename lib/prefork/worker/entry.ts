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
import { rehearse } from './rehearsal.ts';
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
  const taken = roleOf(message);
  void taken.start();
  return taken as Role;
}

function roleOf(message: ToMold | ToWorker): Mold | Worker {
  if (message.type !== 'be-mold' && message.type !== 'be-worker') {
    throw new Error(`Not the first message of a monitor: ${message.type}`);
  }
  const { plan } = message;
  const listeners = plan.listen.map((_, index) => FIRST_LISTENER + index);
  const given = { loop, board, listeners, plan };
  if (message.type === 'be-mold') {
    const { title } = message;
    const toMonitor = channel as Channel<ToMold, FromMold>;
    const rehearsed = async () => {
      await rehearse(loop, plan);
      return load(plan, dieWithParent);
    };
    return new Mold({ ...given, channel: toMonitor, title, load: rehearsed });
  }
  const { place } = message;
  return new Worker({
    ...given,
    channel: channel as Channel<ToWorker, FromWorker>,
    boardFd: BOARD,
    place,
    method: 'spawn',
    application: () => load(plan),
  });
}

async function load(plan: Plan, settled = () => {}): Promise<Application> {
  takeUp(plan);
  settled();
  return Application.load(plan.application);
}
