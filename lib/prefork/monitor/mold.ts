/**
 * The monitor's side of one mold: the process that has loaded the application and forks workers. It is spawned, or
 * forked by a warm worker (`adopt`). It may die or hang at any moment; then the workers that it was about to fork are
 * told of it, and its end is told once. Decides nothing: `molds.ts` does.
 */
import type { ExitStatus, ForkHazard } from '../../process/contract.ts';
import type { Loop } from '../../process/loop.ts';
import { close } from '../../sys/index.ts';
import { Channel } from '../channel.ts';
import type { Failure, FromMold, ToMold } from '../messages.ts';
import { monotonic } from '../scoreboard.ts';
import type { KillReason } from './cause.ts';
import { adoptChild, type Child } from './child.ts';
import { isFromMold } from './hearing.ts';
import { deadline } from './patience.ts';
import type { Worker } from './worker.ts';

export interface Loaded {
  ms: number;
  hazards: ForkHazard[];
  method: 'fork' | 'spawn';
  cutOff: string;
}

export interface MoldHandlers {
  onLoaded(mold: Mold, loaded: Loaded): void;
  onEnd(mold: Mold, exit: ExitStatus): void;
}

/** How long a fork may take: it is a matter of milliseconds unless something hangs. ms */
const FORK_TIMEOUT = 10_000;
/** What a mold gets to leave by itself. ms */
const LEAVE_TIMEOUT = 2000;

export class Mold {
  readonly generation: number;
  readonly startedAt: number = monotonic();
  state: 'loading' | 'ready' | 'leaving' | 'ended' = 'loading';
  readyAt: number | undefined;
  failure: Failure | undefined;
  killed: KillReason | undefined;
  readonly #loop: Loop;
  readonly #handlers: MoldHandlers;
  readonly #channel: Channel<unknown, ToMold>;
  /** Workers that it was told to fork and has not answered for, by their entries. */
  readonly #pending = new Map<number, { worker: Worker; timeout: Disposable }>();
  #child: Child | undefined;
  #timer: Disposable | undefined;

  /** Takes over `channel`. */
  constructor(loop: Loop, generation: number, channel: number, bootTimeout: number, handlers: MoldHandlers) {
    this.#loop = loop;
    this.generation = generation;
    this.#handlers = handlers;
    this.#channel = new Channel(loop, channel, {
      onMessage: (message, descriptors) => this.#hear(message, descriptors),
      onEnd: () => this.#unheard(),
    });
    this.#timer = deadline(loop, bootTimeout, () => this.kill('boot-deadline'));
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get wasReady(): boolean {
    return this.readyAt !== undefined;
  }

  /** It has been ready for longer than it took to be: to load it anew each time it is killed costs half of a processor at most. */
  get paidOff(): boolean {
    return this.readyAt !== undefined && monotonic() - this.readyAt > this.readyAt - this.startedAt;
  }

  /** Its process is known. */
  born(child: Child): void {
    this.#child = child;
    if (this.killed !== undefined) child.kill('SIGKILL');
  }

  /** A worker has forked it: it, or the mold itself, says which process it is. */
  named(pid: number): void {
    if (this.#child !== undefined || this.state === 'ended') return;
    try {
      this.born(adoptChild(this.#loop, pid, (exit) => this.ended(exit)));
    } catch {
      this.ended({ ...UNSEEN, pid });
    }
  }

  /** Nobody has forked it. */
  unborn(failure: Failure): void {
    if (this.#child !== undefined) return;
    this.failure ??= failure;
    this.ended(UNSEEN);
  }

  assign(message: ToMold): void {
    this.#channel.send(message);
  }

  /** `theirs`: the worker's end of its channel, and its own listeners if it has any; they change hands. */
  fork(worker: Worker, theirs: readonly number[]): void {
    const timeout = deadline(this.#loop, FORK_TIMEOUT, () => this.kill('system'));
    this.#pending.set(worker.entry.index, { worker, timeout });
    this.#channel.send({ type: 'fork', place: worker.place }, theirs);
  }

  leave(): void {
    if (this.state === 'leaving' || this.state === 'ended') return;
    this.state = 'leaving';
    this.#channel.send({ type: 'leave' });
    this.#timer?.[Symbol.dispose]();
    this.#timer = deadline(this.#loop, LEAVE_TIMEOUT, () => this.kill('drained'));
  }

  kill(reason: KillReason): void {
    this.killed ??= reason;
    this.#child?.kill('SIGKILL');
  }

  /** It has never been started: nothing is told. */
  discard(): void {
    this.#close();
  }

  ended(exit: ExitStatus): void {
    if (this.state === 'ended') return;
    this.#channel.finish();
    this.#close();
    this.#handlers.onEnd(this, exit);
  }

  #hear(message: unknown, descriptors: number[]): void {
    for (const fd of descriptors) close(fd);
    if (!isFromMold(message)) {
      this.#channel.close();
      this.#unheard();
      return;
    }
    this.#answers(message);
  }

  #answers(message: FromMold): void {
    switch (message.type) {
      case 'loaded':
        if (this.state !== 'loading') return;
        this.#timer?.[Symbol.dispose]();
        this.state = 'ready';
        this.readyAt = monotonic();
        this.named(message.pid);
        this.#handlers.onLoaded(this, message);
        return;
      case 'failed':
        this.failure = message.error;
        return;
      case 'forked':
        this.#take(message.entry, (worker) =>
          worker.born(adoptChild(this.#loop, message.pid, (exit) => worker.ended(exit))),
        );
        return;
      case 'not-forked':
        this.#take(message.entry, (worker) => worker.unborn(message.error));
        return;
    }
  }

  #take(entry: number, settle: (worker: Worker) => void): void {
    const pending = this.#pending.get(entry);
    if (pending === undefined) return;
    this.#pending.delete(entry);
    pending.timeout[Symbol.dispose]();
    try {
      settle(pending.worker);
    } catch (error) {
      // No process of that number: it ended, and somebody else has seen to it.
      pending.worker.unborn({ message: (error as Error).message, exitCode: 51 });
    }
  }

  /** A mold that cannot be talked to is of no use. */
  #unheard(): void {
    if (this.#child === undefined) {
      this.ended(UNSEEN);
      return;
    }
    this.#timer?.[Symbol.dispose]();
    this.#timer = deadline(this.#loop, LEAVE_TIMEOUT, () => this.kill('system'));
  }

  #close(): void {
    this.state = 'ended';
    this.#timer?.[Symbol.dispose]();
    this.#channel.close();
    for (const { worker, timeout } of this.#pending.values()) {
      timeout[Symbol.dispose]();
      worker.orphaned((pid) => adoptChild(this.#loop, pid, (exit) => worker.ended(exit)));
    }
    this.#pending.clear();
  }
}

/** Of a process that ended before we knew its number. */
const UNSEEN: ExitStatus = {
  pid: 0,
  exitCode: null,
  signal: null,
  coreDumped: false,
  status: null,
  stolen: false,
};
