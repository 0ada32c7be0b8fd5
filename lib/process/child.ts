/**
 * ChildHandle: a child of ours, from its start to after its end; what `fork` and `spawn` return is made of it. Its end
 * is seen without reaping it; then what is left of its group is settled, and the reap comes last, so that until then its
 * number is nobody else's. A signal never reaches a stranger.
 */
import { now } from '../loop/time.ts';
import { WatcherBase } from '../loop/watcher.ts';
import { checkKeys, checkObject, invalidType, outOfRange, stateError, systemError } from '../sys/errors.ts';
import { signalNumber } from '../sys/signals.ts';
import type { ChildProcess, ExitStatus, SignalName } from './contract.ts';
import { type Exits, goneError, type Owner } from './exits.ts';
import { OwnedGroup } from './group.ts';
import type { ProcessHost } from './host.ts';
import { nativeChild } from './native.ts';
import { ProcessRecord } from './record.ts';

const DEFAULT_GRACE = 5000;

export interface ChildOptions {
  readonly pid: number;
  /** Changes hands. -1 when whoever made the child has none: it is opened here. */
  readonly pidfd: number;
  /** It was made to be another process's child: the nearest subreaper's, which may be this one. */
  readonly detached?: boolean;
  /** The child leads a process group of its own. */
  readonly leadsGroup?: boolean;
  readonly onExit?: ((exit: ExitStatus) => void) | undefined;
}

/** Stands in the loop's book for a child, or for somebody who waits for one. */
class ChildWatch extends WatcherBase {
  constructor(type: string, host: ProcessHost) {
    super(type, host);
    this.enlist();
  }
  protected override onStop(): void {
    // In no table.
  }
}

/** One call of `stop`, until it is over. */
interface Stop {
  watch: ChildWatch;
  /** When SIGKILL is due, on the monotonic clock. */
  readonly deadline: number;
  timer: Disposable;
  readonly resolve: (exit: ExitStatus) => void;
  readonly reject: (error: unknown) => void;
}

export class ChildHandle implements ChildProcess {
  readonly pid: number;
  readonly exited: Promise<ExitStatus>;
  readonly #record: ProcessRecord;
  readonly #group: OwnedGroup | undefined;
  readonly #resolve: (exit: ExitStatus) => void;
  #onExit: ((exit: ExitStatus) => void) | undefined;
  #exits: Exits;
  #watch: ChildWatch;
  /** Its end was seen in a round, and its group is empty. */
  #settled = false;
  #ended = false;
  readonly #stops = new Set<Stop>();
  readonly #owner: Owner = {
    ended: (exit) => this.#end(exit),
    moved: (heir) => this.#move(heir),
    lost: () => this.#watch.stop(),
  };

  constructor(exits: Exits, { pid, pidfd, detached = false, leadsGroup = false, onExit }: ChildOptions) {
    this.pid = pid;
    this.#exits = exits;
    this.#onExit = onExit;
    this.#record = detached ? ProcessRecord.ofDetached(pid, pidfd) : ProcessRecord.ofOwn(pid, pidfd);
    this.#record.hold();
    this.#group = leadsGroup ? new OwnedGroup(this.#record) : undefined;
    let resolve: (exit: ExitStatus) => void = () => {};
    this.exited = new Promise((fulfil) => {
      resolve = fulfil;
    });
    this.#resolve = resolve;
    this.#watch = new ChildWatch('FORKBEARD_CHILD', exits.host);
    exits.own(this.#record, this.#owner);
  }

  get exit(): ExitStatus | null {
    return this.#record.exit;
  }

  /** The process group that the child leads, 0 if it leads none. */
  get groupId(): number {
    return this.#group?.id ?? 0;
  }

  kill(signal: SignalName | number = 'SIGTERM'): void {
    const number = signalOrNone(signal);
    this.#record.checkOurs();
    if (this.#record.observe()) throw goneError(this.pid);
    const errno = nativeChild().signal(this.pid, this.#record.pidfd, number);
    if (errno < 0) throw systemError(errno, 'kill', { pid: this.pid });
  }

  /** Signals the whole group. Throws ESRCH once it is empty, ERR_FORKBEARD_GROUP_NOT_OWNED if the child leads none. */
  killGroup(signal: SignalName | number = 'SIGTERM'): void {
    const number = signalOrNone(signal);
    if (this.#group === undefined) {
      throw stateError('GROUP_NOT_OWNED', `Process ${this.pid} leads no process group of its own`);
    }
    this.#record.checkOurs();
    if (this.#settled) throw goneError(-this.pid);
    this.#group.signal(number);
  }

  stop(options: { signal?: SignalName | number; graceMs?: number } = {}): Promise<ExitStatus> {
    return new Promise((resolve, reject) => {
      checkObject(options, 'options');
      checkKeys(options, ['signal', 'graceMs'], 'option');
      const { signal = 'SIGTERM', graceMs = DEFAULT_GRACE } = options;
      const number = signalNumber(signal);
      if (typeof graceMs !== 'number') throw invalidType('options.graceMs', 'a number', graceMs);
      if (!(graceMs >= 0)) throw outOfRange('options.graceMs', '>= 0', graceMs);
      this.#record.checkOurs();
      if (this.#settled) {
        resolve(this.#record.exit as ExitStatus);
        return;
      }
      this.#send(number);
      // Whoever is stopped hears of it only when he goes on.
      this.#send('SIGCONT');
      const { host } = this.#exits;
      const stop: Stop = {
        watch: new ChildWatch('FORKBEARD_STOP', host),
        deadline: now() + graceMs,
        timer: this.#killAfter(graceMs),
        resolve,
        reject,
      };
      this.#stops.add(stop);
    });
  }

  ref(): this {
    this.#watch.ref();
    return this;
  }

  unref(): this {
    this.#watch.unref();
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  // --------------------------------------------------------------------------------- its end

  #end(exit: ExitStatus): void {
    this.#ended = true;
    const onExit = this.#onExit;
    const resolve = () => this.#resolve(exit);
    this.#exits.call(
      this.#watch,
      () => {
        resolve();
        onExit?.(exit);
      },
      exit,
      resolve,
    );
    if (this.#group === undefined) {
      this.#settle();
      return;
    }
    // Reaped at once where that does not cost us the group, else when the group is empty.
    if (this.#group.outlivesLeader) this.#record.reap();
    this.#group.whenEmpty(this.#exits, () => this.#settle());
  }

  /** The child has ended, and so has its group. */
  #settle(): void {
    this.#settled = true;
    this.#record.reap();
    this.#record.release();
    this.#exits.disown(this.#owner);
    for (const stop of this.#stops) this.#finish(stop, () => stop.resolve(this.#record.exit as ExitStatus));
  }

  #finish(stop: Stop, settle: () => void): void {
    this.#stops.delete(stop);
    stop.timer[Symbol.dispose]();
    this.#exits.call(stop.watch, settle, this.#record.exit as ExitStatus, settle);
  }

  /** To the group, or the child alone, and to a leader that has left its group. */
  #send(signal: SignalName | number): void {
    if (this.#group !== undefined) unlessGone(() => this.killGroup(signal));
    if (!this.#group?.hasItsLeader) unlessGone(() => this.kill(signal));
  }

  #killAfter(ms: number): Disposable {
    return this.#exits.host.watchTime({ after: ms }, () => {
      try {
        this.#send('SIGKILL');
      } catch (error) {
        // It may have become another user's meanwhile.
        for (const stop of this.#stops) this.#finish(stop, () => stop.reject(error));
      }
    });
  }

  #move(heir: Exits): void {
    const former = this.#watch;
    const onExit = this.#onExit;
    this.#watch.retire();
    this.#exits = heir;
    this.#watch = new ChildWatch('FORKBEARD_CHILD', heir.host).unref();
    if (onExit !== undefined) {
      this.#onExit = (exit) => former.runInAsyncScope(onExit, undefined, exit);
    }
    if (this.#ended) this.#group?.whenEmpty(heir, () => this.#settle());
    for (const stop of this.#stops) {
      stop.timer = this.#killAfter(Math.max(0, stop.deadline - now()));
      stop.watch.retire();
      stop.watch = new ChildWatch('FORKBEARD_STOP', heir.host);
    }
  }
}

/** That they have ended is as good. */
function unlessGone(send: () => void): void {
  try {
    send();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function signalOrNone(signal: SignalName | number): number {
  return signal === 0 ? 0 : signalNumber(signal);
}
