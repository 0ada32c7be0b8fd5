/**
 * One run of a service, from its shim's start to the moment when nothing of it is left. Made by the service's starter,
 * anew for each start, so that a late word about an old run never speaks of the new one. Its promises are settled once
 * and in their order: started, then ended, then over.
 */
import type { ExitStatus } from '../process/contract.ts';
import type { Loop } from '../process/loop.ts';
import { stateError } from '../sys/errors.ts';
import { bootId, type Identity } from './identity.ts';
import { endRun, type Orphan } from './orphans.ts';
import { type Peer, Shim, type ShimEvents, type ShimOptions, type Started, type StopStep } from './shim.ts';

export interface StopTaken {
  readonly signal: string;
  /** ms since the stop began. */
  readonly at: number;
  /** Whom it was for: pids. */
  readonly to: readonly number[];
  readonly error: Error | null;
}

/** How a run was over. */
export interface RunEnd {
  readonly exit: ExitStatus | null;
  /**
   * `clean`: the shim has seen the last of it go. `lost`: the shim was killed; what was left of the run was ended by its
   * id. `lease`: the shim let go of us and is ending it.
   */
  readonly how: 'clean' | 'lost' | 'lease';
  readonly orphans: readonly Orphan[];
}

/** In this order: nothing is told of a run before it has started. */
export interface RunEvents {
  /** Not of one that is adopted. */
  started(info: Started, runId: string): void;
  output(stream: 'stdout' | 'stderr', data: Buffer): void;
  /** The first process has ended; the rest has not, perhaps. */
  ended(exit: ExitStatus, left: readonly number[]): void;
  /** Another `isHalted` than before. */
  halted(): void;
  /** Another `unseen` than before. */
  unseen(): void;
  /** It says more than it may, and waits. With a number, that is over: ms for which its output was not read. */
  flood(held: number | null): void;
  stuck(left: readonly number[]): void;
  /** Its traces were made anew, or could not be. */
  restored(error: Error | null): void;
  over(end: RunEnd): void;
}

export class Run {
  /** Of one that is adopted: '' until it has started. */
  id: string;
  /** Rejected with what kept it from starting; then there is nothing of it, and no other event. */
  readonly started: Promise<Started>;
  /** The first process's end, or the shim's. */
  readonly ended: Promise<void>;
  readonly over: Promise<RunEnd>;
  readonly shim: Shim;
  isOver = false;
  info: Started | null = null;
  exit: ExitStatus | null = null;
  /** Its first process is stopped by a signal: it is there, and does nothing. */
  isHalted = false;
  /** Why nobody can say who is left of it, while that is so: perhaps nobody is, perhaps many are. */
  unseen: Error | null = null;
  /** Which file its lock is. */
  lock: string | null = null;
  /** Pids that were left when the first process ended, or when it was stuck. */
  left: readonly number[] = [];
  readonly steps: StopTaken[] = [];
  #refused = false;
  #stuck: (() => void)[] = [];
  #stopBegan: number | null = null;
  readonly #now: () => number;
  /** What is to be told of one that is adopted, once who adopts it has said so. */
  #untold: (() => void)[] | null = null;

  /** Throws what keeps its shim from starting. */
  static start(loop: Loop, id: string, options: ShimOptions, events: RunEvents): Run {
    const isKept = options.independent !== undefined;
    return new Run(loop, id, isKept, events, (heard) => Shim.start(loop, options, heard));
  }

  /** One that runs already, or whose end is kept: `started` is fulfilled, or rejected when it has a supervisor. */
  static adopt(loop: Loop, path: string, isShim: (peer: Peer) => boolean, events: RunEvents): Run {
    return new Run(loop, '', true, events, (heard) => Shim.adopt(loop, path, heard, isShim));
  }

  /** `isKept`: the shim stays with how it ended until that was heard. */
  private constructor(
    loop: Loop,
    id: string,
    isKept: boolean,
    events: RunEvents,
    connect: (events: ShimEvents) => Shim,
  ) {
    this.id = id;
    this.#now = () => loop.now();
    const isAdopted = id === '';
    if (isAdopted) this.#untold = [];
    const tell = (event: () => void) => {
      if (this.#untold === null) event();
      else this.#untold.push(event);
    };
    let start: (info: Started) => void = () => {};
    let refuse: (error: Error) => void = () => {};
    let finish: (end: RunEnd) => void = () => {};
    let end: () => void = () => {};
    this.started = new Promise((resolve, reject) => {
      start = resolve;
      refuse = reject;
    });
    // Who waits for the end alone is told by that.
    this.started.catch(() => {});
    this.over = new Promise((resolve) => {
      finish = resolve;
    });
    this.ended = new Promise((resolve) => {
      end = resolve;
    });
    const over = (how: RunEnd) => {
      if (this.isOver) return;
      this.isOver = true;
      end();
      finish(how);
      if (this.info !== null) tell(() => events.over(how));
    };
    let isEmpty = false;
    let isLeaseOver = false;
    const halt = (isHalted: boolean) => {
      this.isHalted = isHalted;
      tell(() => events.halted());
    };
    const heard: ShimEvents = {
      started: (info) => {
        this.info = info;
        this.lock = info.lock;
        if (isAdopted) this.id = info.run;
        start(info);
        if (!isAdopted) events.started(info, id);
      },
      refused: (error) => {
        this.#refused = true;
        refuse(error);
      },
      output: (stream, data) => tell(() => events.output(stream, data)),
      exited: (exit, left) => {
        this.exit = exit;
        this.isHalted = false;
        this.left = left;
        end();
        tell(() => events.ended(exit, left));
      },
      stopped: () => halt(true),
      continued: () => halt(false),
      unseen: (error) => {
        this.unseen = error;
        tell(() => events.unseen());
      },
      flooding: () => tell(() => events.flood(null)),
      calm: (held) => tell(() => events.flood(held)),
      empty: () => {
        isEmpty = true;
        // Its lock is free when it is gone, not before.
        if (isKept) this.shim.dismiss();
        else over({ exit: this.exit, how: 'clean', orphans: [] });
      },
      signalled: (signal, to, error) => {
        this.steps.push({ signal, at: this.#now() - (this.#stopBegan ?? this.#now()), to, error });
      },
      stuck: (left) => {
        this.left = left;
        for (const resolve of this.#stuck.splice(0)) resolve();
        tell(() => events.stuck(left));
      },
      restored: (error, lock) => {
        this.lock = lock;
        tell(() => events.restored(error));
      },
      busy: (supervisor) => {
        this.#refused = true;
        refuse(Object.assign(stateError('BUSY', 'It has a supervisor'), { supervisor }));
      },
      leaseOver: () => {
        isLeaseOver = true;
      },
      gone: () => {
        if (this.isOver) return;
        if (this.info === null && !this.#refused)
          refuse(new Error('The shim ended before the service began'));
        if (isLeaseOver && this.info !== null) {
          // It is ending the service; there is none beside it.
          void endOf(loop, this.shim, this.info.shim).then(() =>
            over({ exit: this.exit, how: 'lease', orphans: [] }),
          );
          return;
        }
        const how = this.#refused || isEmpty ? 'clean' : 'lost';
        over({
          exit: this.exit,
          how,
          orphans: how === 'lost' && this.id !== '' ? endRun(this.id, this.first) : [],
        });
      },
    };
    this.shim = connect(heard);
  }

  /** Its first process. Null before it has started. */
  get first(): Identity | null {
    const { info } = this;
    return info === null ? null : { pid: info.pid, startTime: info.startTime, bootId: bootId() };
  }

  /** What was adopted is somebody's now, who has said so: what happened to it is told from here on. */
  tellOn(): void {
    const untold = this.#untold ?? [];
    this.#untold = null;
    for (const event of untold) event();
  }

  /** Begins a stop sequence, or another one in its place. Fulfilled when the run is over, or the last step was in vain. */
  stop(steps: readonly StopStep[]): Promise<void> {
    this.#stopBegan ??= this.#now();
    this.shim.stop(steps);
    return new Promise((resolve) => {
      this.#stuck.push(resolve);
      void this.over.then(() => resolve());
    });
  }
}

async function endOf(loop: Loop, shim: Shim, pid: number): Promise<void> {
  if (shim.process !== null) {
    await shim.process.exited;
    return;
  }
  await new Promise<void>((resolve) => {
    try {
      loop.watchProcess(pid, () => resolve());
    } catch {
      resolve();
    }
  });
}
