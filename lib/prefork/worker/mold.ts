/**
 * The mold: a process that loads the application, serves nothing, and forks workers when the monitor asks for them, so
 * that all of them share what was loaded. Everything that would be a worker's own (servers, factories, connections)
 * is made in the workers.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { ForkHazard, ForkSafety } from '../../process/contract.ts';
import { openHandles } from '../../process/fork-safety.ts';
import type { Loop } from '../../process/loop.ts';
import { knowsNodeTimers } from '../../process/node-timers.ts';
import { close } from '../../sys/index.ts';
import { Channel } from '../channel.ts';
import { EXIT } from '../exit-codes.ts';
import type { FromMold, FromWorker, Place, ToMold, ToWorker } from '../messages.ts';
import type { Plan } from '../plan.ts';
import type { Scoreboard } from '../scoreboard.ts';
import type { Application } from './application.ts';
import { codeOfBoot, codeOfFork, endWhenUncaught, failure, lostOnTheWay, troubleOfBoot } from './endings.ts';
import { BOARD } from './inheritance.ts';
import { Worker } from './worker.ts';

/** What loading has begun (files that are closed, names that are looked up) may take so long to end. ms */
const SETTLE = 1000;
const BETWEEN_LOOKS = 10;
/** When so many children die at their birth and none has lived, it is no accident. */
const ALL_STILLBORN = 3;

export interface MoldOptions {
  loop: Loop;
  channel: Channel<ToMold, FromMold>;
  board: Scoreboard;
  listeners: readonly number[];
  plan: Plan;
  title: string;
  load(): Promise<Application>;
}

export class Mold {
  readonly #options: MoldOptions;
  #application: Application | undefined;
  #loaded = false;
  /** Children that died before they could begin, as long as none has lived. */
  #stillborn = 0;
  /** Forks follow each other: a hook must not run while another fork is prepared. */
  #turn: Promise<void> = Promise.resolve();

  constructor(options: MoldOptions) {
    this.#options = options;
  }

  /** Never throws: what goes wrong is told to the monitor, and ends this process. */
  async start(): Promise<void> {
    const { channel, load, title, loop } = this.#options;
    const began = performance.now();
    process.title = title;
    endWhenUncaught(title, (error) => (this.#loaded ? EXIT.uncaught : this.#tellFailure(error)));
    // The first question decides where V8 puts what is loaded now (docs/decisions/014).
    loop.forkSafety();
    // To be found before there are any of the application's.
    knowsNodeTimers();
    try {
      this.#application = await load();
    } catch (error) {
      process.exit(this.#tellFailure(error));
    }
    const { hazards, method } = await settledSafety(loop);
    // What loading left behind is gone before it is shared; twice, since finalizers free more.
    if (method === 'fork') collectGarbage();
    this.#loaded = true;
    const cutOff = this.#application.hooks.beforeFork === undefined ? openHandles() : '';
    channel.send({
      type: 'loaded',
      pid: process.pid,
      ms: performance.now() - began,
      hazards,
      method,
      cutOff,
    });
  }

  onMessage(message: ToMold, descriptors: number[]): void {
    switch (message.type) {
      case 'fork': {
        const [channel, ...listeners] = descriptors;
        if (channel === undefined) this.#tellNotForked(message.place, lostOnTheWay());
        else this.#turn = this.#turn.then(() => this.#fork(message.place, channel, listeners));
        break;
      }
      case 'leave':
        process.exit(0);
    }
  }

  /** The monitor is gone: there is nobody to fork for. */
  onEnd(): void {
    process.exit(EXIT.lostMonitor);
  }

  #tellFailure(error: unknown): number {
    const { channel, plan } = this.#options;
    const trouble = troubleOfBoot(error, plan);
    const code = codeOfBoot(trouble);
    channel.send({ type: 'failed', error: failure(trouble, code) });
    return code;
  }

  /** `own`: listeners for this worker alone; without them it has those that all share. */
  async #fork(place: Place, channel: number, own: readonly number[]): Promise<void> {
    const { loop } = this.#options;
    const application = this.#application as Application;
    const listeners = own.length > 0 ? own : this.#options.listeners;
    try {
      await application.hooks.beforeFork?.();
    } catch (error) {
      this.#tellNotForked(place, error);
      closeAll([channel, ...own]);
      return;
    }
    const fork = () =>
      loop.fork({
        detached: true,
        inherit: [channel, BOARD, ...listeners],
        code: (context) => this.#beWorker(context.loop, place, channel, listeners),
      });
    // The next one need not wait until this one has said that it lives.
    fork()
      .catch(async (error: unknown) => {
        if (!willPass(error)) throw error;
        await settledSafety(loop);
        return fork();
      })
      .then(
        (child) => {
          this.#stillborn = Number.NEGATIVE_INFINITY;
          this.#options.channel.send({ type: 'forked', entry: place.entry, pid: child.pid });
        },
        (error: unknown) => this.#tellNotForked(place, error),
      )
      .finally(() => closeAll([channel, ...own]));
  }

  #tellNotForked({ entry }: Place, error: unknown): void {
    // A child that dies at its birth was killed by somebody; when all do, it is forking that does not work.
    const died = codeOf(error) === 'ERR_FORKBEARD_FORK_DIED' && ++this.#stillborn < ALL_STILLBORN;
    const exitCode = died ? EXIT.system : codeOfFork(error);
    this.#options.channel.send({ type: 'not-forked', entry, error: failure(error, exitCode) });
  }

  /** In the child. */
  #beWorker(loop: Loop, place: Place, fd: number, listeners: readonly number[]): void {
    const { board, plan } = this.#options;
    const application = this.#application as Application;
    const channel: Channel<ToWorker, FromWorker> = new Channel(loop, fd, {
      onMessage: (message: ToWorker, descriptors) => worker.onMessage(message, descriptors),
      onEnd: () => worker.onEnd(),
    });
    const worker = new Worker({
      loop,
      channel,
      board,
      boardFd: BOARD,
      listeners,
      plan,
      place,
      method: 'fork',
      application,
    });
    void worker.start();
  }
}

/** What the application has begun while it was loaded shall have ended. */
async function settledSafety(loop: Loop): Promise<ForkSafety> {
  const deadline = performance.now() + SETTLE;
  for (;;) {
    const safety = loop.forkSafety();
    const blocking = safety.hazards.filter((hazard) => hazard.blocking);
    if (!arePassing(blocking) || performance.now() > deadline) return safety;
    await loop.delay(BETWEEN_LOOKS);
  }
}

/** What the application does at this moment in libuv's pool is done a moment later. */
function arePassing(blocking: readonly ForkHazard[]): boolean {
  return blocking.length > 0 && blocking.every(({ code }) => code === 'UV_REQUESTS');
}

function willPass(error: unknown): boolean {
  const { hazards = [] } = error as { hazards?: ForkHazard[] };
  return (
    codeOf(error) === 'ERR_FORKBEARD_FORK_UNSAFE' && arePassing(hazards.filter(({ blocking }) => blocking))
  );
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown } | null)?.code;
}

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  setFlagsFromString('--no-expose-gc');
  gc();
  gc();
}

function closeAll(descriptors: readonly number[]): void {
  for (const fd of descriptors) close(fd);
}
