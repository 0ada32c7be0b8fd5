/**
 * The monitor's side of one worker: its process, its channel, its entry of the scoreboard, and what is remembered of
 * it. It may be forked by a mold that dies in the middle of it, stopped, or out of its mind: whatever it is, its end is
 * told exactly once. Decides nothing: `crew.ts` and `watchdog.ts` do.
 */
import type { ExitStatus } from '../../process/contract.ts';
import type { Loop } from '../../process/loop.ts';
import { close } from '../../sys/index.ts';
import { Channel } from '../channel.ts';
import type { ExitRecord, WorkerInfo, WorkerMemory, WorkerStatus } from '../contract.ts';
import type { Failure, FromWorker, Place, ToWorker } from '../messages.ts';
import { type Entry, monotonic, PAUSES } from '../scoreboard.ts';
import { classify, type KillReason } from './cause.ts';
import type { Child } from './child.ts';
import { isFromWorker } from './hearing.ts';
import { memoryOf } from './memory.ts';
import { deadline } from './patience.ts';
import type { Member } from './pool.ts';

export interface WorkerHandlers {
  /** Its pid is known: before anything else is told. */
  onNamed(worker: Worker): void;
  onMessage(worker: Worker, message: FromWorker): void;
  onEnd(worker: Worker, exit: ExitStatus): void;
  /** It has never been there. */
  onUnborn(worker: Worker, failure: Failure): void;
}

/** How long a memory reading is good for. ms */
const FRESH = 1000;
/** What a worker gets to leave by itself once it is not listened to any more: longer than it gives itself. ms */
const ABANDONED = 8000;

export class Worker {
  readonly member: Member;
  readonly place: Place;
  readonly entry: Entry;
  readonly method: 'fork' | 'spawn';
  readonly startedAt: number = monotonic();
  readyAt: number | undefined;
  /** When it was told to leave. */
  leavingAt: number | undefined;
  killed: KillReason | undefined;
  failure: Failure | undefined;
  /** Why it is to be replaced. */
  tiredOf: ExitRecord['reason'];
  /** When the trouble began that was last told of it. */
  readonly told = new Map<'blocked-loop' | 'request', number>();
  readonly #channel: Channel<unknown, ToWorker>;
  readonly #loop: Loop;
  readonly #handlers: WorkerHandlers;
  #child: Child | undefined;
  /** The pid that it gave itself. */
  #claimed: number | undefined;
  #over = false;
  #orphaned = false;
  #abandoned: Disposable | undefined;
  #memory: WorkerMemory | null = null;
  #memoryAt = Number.NEGATIVE_INFINITY;

  constructor(
    loop: Loop,
    member: Member,
    place: Place,
    entry: Entry,
    method: 'fork' | 'spawn',
    channel: number,
    handlers: WorkerHandlers,
  ) {
    this.member = member;
    this.place = place;
    this.entry = entry;
    this.method = method;
    this.#loop = loop;
    this.#handlers = handlers;
    this.#channel = new Channel(loop, channel, {
      onMessage: (message, descriptors) => this.#hear(message, descriptors),
      onEnd: () => this.#unheard(),
    });
  }

  /** 0 until it is known. */
  get pid(): number {
    return this.#child?.pid ?? this.#claimed ?? 0;
  }

  get info(): WorkerInfo {
    const { member, method, pid } = this;
    return { id: member.place, pid, generation: member.generation, method };
  }

  send(message: ToWorker, give: readonly number[] = []): void {
    this.#channel.send(message, give);
  }

  /** Its process is known. Call once. */
  born(child: Child): void {
    const known = this.pid !== 0;
    this.#child = child;
    if (!known) this.#handlers.onNamed(this);
    if (this.killed !== undefined) child.kill('SIGKILL');
  }

  /** Whoever was to fork it says that it did not, or can say nothing any more. */
  unborn(failure: Failure): void {
    if (this.#over || this.#child !== undefined) return;
    this.#close();
    this.#handlers.onUnborn(this, failure);
  }

  /** Its mold is gone without a word about it: it may be there none the less, and then it says so itself. */
  orphaned(adopt: (pid: number) => Child): void {
    this.#orphaned = true;
    if (this.#child !== undefined || this.#over) return;
    this.#adopt = adopt;
    if (this.#claimed !== undefined) this.#adoptClaimed();
    else if (!this.#channel.open) this.unborn(GONE);
  }
  #adopt: ((pid: number) => Child) | undefined;

  /** SIGKILL; as soon as its process is known, if it is not. */
  kill(reason: KillReason): void {
    if (this.killed !== undefined || this.#over) return;
    this.killed = reason;
    this.readMemory();
    this.#child?.kill('SIGKILL');
  }

  /** Whether it has a process that a signal can reach. */
  signal(signal: string): void {
    this.#child?.kill(signal);
  }

  /** Its process has ended. */
  ended(exit: ExitStatus): void {
    if (this.#over) return;
    // Its last words may be on their way.
    this.#channel.finish();
    this.#close();
    this.#handlers.onEnd(this, exit);
  }

  /** `fresh`: how old a reading may be, ms. */
  readMemory(fresh = FRESH): WorkerMemory | null {
    const { pid } = this;
    const now = monotonic();
    if (pid !== 0 && now - this.#memoryAt > fresh) {
      this.#memoryAt = now;
      this.#memory = memoryOf(pid) ?? this.#memory;
    }
    return this.#memory;
  }

  status(): WorkerStatus {
    const { entry, member } = this;
    return {
      ...this.info,
      state: member.state,
      age: Math.round(monotonic() - this.startedAt),
      requests: entry.get('requests'),
      inFlight: entry.get('inFlight'),
      connections: entry.get('connections'),
      lag: entry.get('lag'),
      memory: this.readMemory(),
      paused: PAUSES[entry.get('paused')] ?? '',
    };
  }

  record(exit: ExitStatus, oomKill: boolean): ExitRecord {
    const { entry, member, method, killed } = this;
    const ready = this.readyAt !== undefined;
    const cause = classify({
      exitCode: exit.exitCode,
      signal: exit.signal,
      killed,
      ready,
      leaving: this.leavingAt !== undefined,
      nearHeapLimit: entry.get('nearHeapLimit') === 1,
      oomKill,
    });
    const record: ExitRecord = {
      worker: member.place,
      pid: exit.pid,
      generation: member.generation,
      method,
      cause,
      exitCode: exit.exitCode,
      signal: exit.signal,
      age: Math.round(monotonic() - this.startedAt),
      ready,
      requests: entry.get('requests'),
      inFlight: entry.get('inFlight'),
      memory: this.#memory,
    };
    const stack = entry.read('stack');
    const request = record.inFlight > 0 ? entry.read('request') : '';
    if (cause === 'recycled' && this.tiredOf !== undefined) record.reason = this.tiredOf;
    if (stack !== '') record.stack = stack;
    if (request !== '') record.request = request;
    if (this.failure !== undefined) record.message = this.failure.message;
    if (this.failure?.stack !== undefined) record.stack ??= this.failure.stack;
    return record;
  }

  // ------------------------------------------------------------------------------- what it says

  #hear(message: unknown, descriptors: number[]): void {
    // A worker has nothing to give.
    for (const fd of descriptors) close(fd);
    if (!isFromWorker(message)) {
      this.#channel.close();
      this.#unheard();
      return;
    }
    if (message.type === 'hello') this.#claim(message.pid);
    if (message.type === 'failed') this.failure = message.error;
    this.#adoptClaimed();
    this.#handlers.onMessage(this, message);
  }

  #claim(pid: number): void {
    const known = this.pid !== 0;
    this.#claimed = pid;
    if (!known) this.#handlers.onNamed(this);
  }

  #adoptClaimed(): void {
    if (this.#adopt === undefined || this.#claimed === undefined || this.#child !== undefined) return;
    try {
      this.born(this.#adopt(this.#claimed));
    } catch {
      this.unborn(GONE);
    }
  }

  /** It has closed its end, which is how most ends begin; or it talks nonsense. */
  #unheard(): void {
    if (this.#child === undefined && this.#orphaned) {
      this.unborn(GONE);
      return;
    }
    this.#abandoned ??= deadline(this.#loop, ABANDONED, () => this.kill('system'));
  }

  #close(): void {
    this.#over = true;
    this.#abandoned?.[Symbol.dispose]();
    this.#channel.close();
  }
}

const GONE: Failure = { message: 'The mold ended while it forked', exitCode: 51 };
