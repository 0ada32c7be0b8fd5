/**
 * A shim as its supervisor sees it: the process that was started beside a service (native/shim/shim.h), or one of an
 * earlier supervisor that is found at its socket. Turns calls into frames and frames into typed events; decides nothing.
 * The service is never a child of this process, so that nothing of it depends on how this process ends.
 */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import type { TimeWatcher } from '../loop/contract.ts';
import { shimProgram } from '../native.ts';
import type { ExitStatus, SpawnedProcess } from '../process/contract.ts';
import { exitStatus } from '../process/exit-status.ts';
import type { Loop } from '../process/loop.ts';
import { nativeChild } from '../process/native.ts';
import { STEPS } from '../process/native-spawn.ts';
import { type SystemErrorDetails, stateError, systemError } from '../sys/errors.ts';
import * as sys from '../sys/index.ts';
import { signalName, signalNumber } from '../sys/signals.ts';
import {
  bytesOf,
  markOf,
  milliseconds,
  planOf,
  type ShimOptions,
  type StopStep,
  shimStdio,
} from './shim-plan.ts';
import { Wire } from './wire.ts';

export type { ServiceStdio, ShimOptions, StopStep } from './shim-plan.ts';

export interface Started {
  readonly pid: number;
  /** Clock ticks since the machine's start; null where the system does not tell. */
  readonly startTime: number | null;
  readonly shim: number;
  /** Orphans of the service come to the shim: nothing of it can get away. */
  readonly adopts: boolean;
  /** The run that it is; '' when nobody said. */
  readonly run: string;
  /** A supervisor before us has found it ready. */
  readonly ready: boolean;
  /** Which file its lock is, as `lockFile` says it; null without one. */
  readonly lock: string | null;
}

/** Who listens where a shim is expected: known before anything that it says is believed. */
export interface Peer {
  /** 0 where the system does not tell. */
  readonly pid: number;
  readonly uid: number;
}

export interface ShimEvents {
  started(started: Started): void;
  /** It did not start. Nothing is left of it, and the shim goes. */
  refused(error: Error): void;
  output(stream: 'stdout' | 'stderr', data: Buffer): void;
  /** The service's first process has ended; `left` are pids of it that have not. */
  exited(exit: ExitStatus, left: readonly number[]): void;
  /** A signal keeps the service's first process from running. Told to who adopts it, too, if it is so. */
  stopped(): void;
  /** It runs again. Not told of one that is ended instead. */
  continued(): void;
  /**
   * The first process has ended, and who is left of the service cannot be seen now, for this reason: nobody, or many.
   * Null: it can again.
   */
  unseen(error: Error | null): void;
  /** Nothing of the service is left; its record is gone. */
  empty(): void;
  /** A step of a stop sequence: to whom the signal went. */
  signalled(signal: string, to: readonly number[], error: Error | null): void;
  /** The last step did not end them. After a SIGKILL it is tried again and again. */
  stuck(left: readonly number[]): void;
  /** It says more than it may: what it says waits in its pipe, and in the end it does. */
  flooding(): void;
  /** It does not any more. `held`: for how long its output was not read, ms, all pauses together. */
  calm(held: number): void;
  /** What was asked for with `restore`: null when all of it is at its path again, with that lock. */
  restored(error: Error | null, lock: string | null): void;
  /** Another supervisor is connected to it: its pid, 0 where the system does not tell. */
  busy(supervisor: number): void;
  /** Nobody has renewed its lease: it lets go of us, and ends the service. */
  leaseOver(): void;
  /** The connection has ended: the shim with it, unless it is independent. Always the last event. */
  gone(): void;
}

type Message =
  | {
      event: 'started';
      pid: number;
      startTime: number;
      shim: number;
      adopts: 0 | 1;
      ready: 0 | 1;
      run: string;
      lock?: string;
    }
  | { event: 'refused'; errno: number; step: number; fd: number; where: string }
  | { event: 'exited'; status: number; left: number[] }
  | { event: 'signalled'; signal: number; errno: number; to: number[] }
  | { event: 'delivered'; signal: number; errno: number }
  | { event: 'restored'; errno: number; lock: string }
  | { event: 'stuck'; left: number[] }
  | { event: 'unseen'; errno: number }
  | { event: 'calm'; held: number }
  | { event: 'busy'; pid: number }
  | { event: 'stopped' | 'continued' | 'flooding' | 'empty' | 'lease-over' };

/** How long a shim has to answer, ms. It does nothing that takes time: one that says nothing is kept from running. */
const ANSWER = 5000;

export class Shim {
  /** Null when it was adopted. */
  readonly process: SpawnedProcess | null;
  readonly #wire: Wire;
  readonly #loop: Loop;
  readonly #events: ShimEvents;
  readonly #program: string;
  readonly #cwd: string | undefined;
  #pid = 0;
  /** Of one that was adopted: it is no child of ours, and its number could become another's. */
  #pin: { readonly pid: number; readonly pidfd: number } | null;
  /** What the service was given, of one that was adopted; ours until they are taken. */
  #sockets: readonly number[] = [];
  #delivered: { timer: TimeWatcher; resolve: () => void; reject: (error: Error) => void }[] = [];

  /** Throws what keeps the shim itself from starting; what keeps the service from it is the event `refused`. */
  static start(loop: Loop, options: ShimOptions, events: ShimEvents): Shim {
    // A place of its own for each starter: the shim that gets the lock puts it where it shall be.
    const made = options.independent && `${options.independent.path}.${randomBytes(4).toString('hex')}`;
    const plan = planOf(options, made);
    const [mine, theirs] = sys.socketpair('stream');
    let listener: number | undefined;
    let shim: Shim | undefined;
    try {
      if (made !== undefined) listener = sys.listen({ path: made }, { backlog: 8 });
      const child = loop.spawn({
        command: [shimProgram()],
        env: { ...process.env, ...markOf(options.env) },
        // The terminal's signals are for the supervisor, and its end is none of an independent service.
        group: made === undefined ? 'new' : 'session',
        stdio: shimStdio(options, theirs, listener),
      });
      shim = new Shim(loop, mine, events, {
        child,
        program: options.command[0],
        cwd: options.settings?.cwd,
      });
      shim.#wire.send('P', plan);
      return shim;
    } catch (error) {
      if (shim === undefined) sys.close(mine);
      else shim.disconnect();
      // Nobody will ever answer there.
      if (made !== undefined) rmSync(made, { force: true });
      throw error;
    } finally {
      sys.close(theirs);
      if (listener !== undefined) sys.close(listener);
    }
  }

  /**
   * The shim that listens at `path`. Throws ECONNREFUSED or ENOENT when there is none, and ERR_FORKBEARD_STRANGER when
   * `isShim` does not believe it: then nothing was sent to it, and nothing read.
   */
  static adopt(loop: Loop, path: string, events: ShimEvents, isShim: (peer: Peer) => boolean): Shim {
    const fd = sys.socket('unix', 'stream');
    const result = sys.connect(fd, { path });
    if (result < 0) {
      sys.close(fd);
      throw systemError(result, 'connect', { path });
    }
    let pidfd = -1;
    try {
      const peer = sys.peerCredentials(fd);
      // Before it is looked at: from here on it is whom we have looked at, or nobody.
      if (peer.pid > 0) pidfd = nativeChild().open(peer.pid);
      if (!isShim(peer)) throw stateError('STRANGER', `${path} is no shim's`);
      const pin = pidfd < 0 ? null : { pid: peer.pid, pidfd };
      return new Shim(loop, fd, events, { child: null, program: '', cwd: undefined, pin });
    } catch (error) {
      if (pidfd >= 0) nativeChild().close(pidfd);
      sys.close(fd);
      throw error;
    }
  }

  private constructor(
    loop: Loop,
    fd: number,
    events: ShimEvents,
    {
      child,
      program,
      cwd,
      pin = null,
    }: {
      child: SpawnedProcess | null;
      program: string;
      cwd: string | undefined;
      pin?: { pid: number; pidfd: number } | null;
    },
  ) {
    this.#loop = loop;
    this.#events = events;
    this.process = child;
    this.#program = program;
    this.#cwd = cwd;
    this.#pin = pin;
    this.#wire = new Wire(loop, fd, {
      onFrame: (kind, body) => this.#take(kind, body),
      onEnd: () => this.#end(),
      ...(child === null
        ? {
            onDescriptors: (fds: readonly number[]) => {
              this.#sockets = fds;
            },
          }
        : {}),
    });
  }

  /** Streams of the service that were asked for as 'pipe'. */
  get stdin(): Writable | null {
    return this.process?.stdin ?? null;
  }
  get stdout(): Readable | null {
    return this.process?.stdout ?? null;
  }
  get stderr(): Readable | null {
    return this.process?.stderr ?? null;
  }

  get connected(): boolean {
    return this.#wire.open;
  }

  /** Of one that was adopted: the sockets that its service was given. From now on they are the caller's. */
  takeSockets(): readonly number[] {
    const sockets = this.#sockets;
    this.#sockets = [];
    return sockets;
  }

  /**
   * To the service's first process, or to everything of it. Rejected with ESRCH when it has ended, and with ETIMEDOUT when
   * the shim does not say within `limit` ms that it was sent: then it may be, later.
   */
  signal(signal: string | number, whom: 'first' | 'all' = 'first', limit = ANSWER): Promise<void> {
    const number = signalNumber(signal);
    return new Promise((resolve, reject) => {
      if (!this.#wire.open) {
        reject(systemError(-sys.ESRCH, 'kill', { pid: this.#pid }));
        return;
      }
      // Its place is kept: what the shim says later is about this one all the same.
      const timer = this.#loop.watchTime({ after: limit }, () => {
        reject(systemError(-sys.ETIMEDOUT, 'kill', { pid: this.#pid }));
      });
      this.#delivered.push({ timer, resolve, reject });
      this.#wake();
      this.#wire.send('K', bytesOf(Int32Array.of(number, whom === 'all' ? 1 : 0)));
    });
  }

  /** Begins a stop sequence, in place of one that is under way. Ends with `empty`, or with `stuck`. */
  stop(steps: readonly StopStep[]): void {
    const rows = steps.flatMap(({ signal, wait }) => [signalNumber(signal), milliseconds(wait)]);
    this.#wake();
    this.#wire.send('S', bytesOf(Int32Array.from(rows)));
  }

  /** Somebody may have stopped the shim itself; then it hears nothing. */
  #wake(): void {
    try {
      this.process?.kill('SIGCONT');
    } catch {
      // It has ended.
    }
    if (this.#pin !== null) nativeChild().signal(this.#pin.pid, this.#pin.pidfd, signalNumber('SIGCONT'));
  }

  /** It needs so many ms more: the step of a stop that is under way lasts that long from now, at least. */
  extend(ms: number): void {
    this.#wire.send('E', bytesOf(Int32Array.of(milliseconds(ms))));
  }

  /** It is ready: to be told to a supervisor that adopts it. */
  ready(): void {
    this.#wire.send('R');
  }

  /** The lease begins anew. */
  beat(): void {
    this.#wire.send('B');
  }

  /** Its lock, its record or its socket is not at its path any more. Answered by `restored`. */
  restore(): void {
    this.#wire.send('T');
  }

  /** Its end was heard. An independent shim waits for this, with its lock, so that no end is lost. */
  dismiss(): void {
    this.#wire.send('D');
  }

  /** Lets go of it. What is coupled ends with that, as it would with us. */
  disconnect(): void {
    this.#wire.close();
    // It may live on, and then its end keeps nobody waiting.
    this.process?.unref();
    this.#fail();
  }

  ref(): this {
    this.process?.ref();
    this.#wire.ref();
    return this;
  }

  unref(): this {
    this.process?.unref();
    this.#wire.unref();
    return this;
  }

  #take(kind: string, body: Buffer): void {
    if (kind === 'O') {
      this.#events.output(body[0] === 2 ? 'stderr' : 'stdout', body.subarray(1));
    } else if (kind === 'J') {
      let message: Message;
      try {
        message = JSON.parse(body.toString()) as Message;
      } catch {
        this.#wire.close();
        this.#end();
        return;
      }
      this.#hear(message);
    }
  }

  #hear(message: Message): void {
    const events = this.#events;
    switch (message.event) {
      case 'started': {
        const { pid, startTime, shim, adopts, ready, run, lock } = message;
        this.#pid = pid;
        events.started({
          pid,
          startTime: startTime < 0 ? null : startTime,
          shim,
          adopts: adopts === 1,
          ready: ready === 1,
          run,
          lock: lock || null,
        });
        break;
      }
      case 'refused':
        events.refused(this.#refusal(message));
        break;
      case 'exited':
        events.exited(exitStatus(this.#pid, message.status), message.left);
        break;
      case 'signalled': {
        const { signal, errno, to } = message;
        const error =
          errno < 0 && errno !== -sys.ESRCH ? systemError(errno, 'kill', { pid: -this.#pid }) : null;
        events.signalled(signalName(signal), to, error);
        break;
      }
      case 'delivered': {
        const waiting = this.#delivered.shift();
        waiting?.timer.stop();
        if (message.errno < 0) waiting?.reject(systemError(message.errno, 'kill', { pid: this.#pid }));
        else waiting?.resolve();
        break;
      }
      case 'restored': {
        const { errno, lock } = message;
        events.restored(errno === 0 ? null : systemError(errno, 'flock'), lock || null);
        break;
      }
      case 'stuck':
        events.stuck(message.left);
        break;
      case 'stopped':
        events.stopped();
        break;
      case 'continued':
        events.continued();
        break;
      case 'unseen':
        events.unseen(message.errno === 0 ? null : systemError(message.errno, 'opendir', { path: '/proc' }));
        break;
      case 'flooding':
        events.flooding();
        break;
      case 'calm':
        events.calm(message.held);
        break;
      case 'empty':
        events.empty();
        break;
      case 'busy':
        events.busy(message.pid);
        break;
      case 'lease-over':
        events.leaseOver();
        break;
    }
  }

  #refusal({ errno, step, fd, where }: Message & { event: 'refused' }): Error {
    if (where === 'lock' && errno === -sys.EAGAIN) {
      return stateError('LOCKED', `Another instance of ${this.#program} holds the lock`);
    }
    const details: SystemErrorDetails = { step: where === '' ? (STEPS[step] as string) : where };
    if (fd >= 0) details.fd = fd;
    if (details.step === 'exec') details.path = this.#program;
    if (details.step === 'chdir' && this.#cwd !== undefined) details.path = this.#cwd;
    return systemError(errno, 'spawn', details);
  }

  #end(): void {
    this.#fail();
    this.#events.gone();
  }

  #fail(): void {
    for (const { timer, reject } of this.#delivered.splice(0)) {
      timer.stop();
      reject(systemError(-sys.ESRCH, 'kill', { pid: this.#pid }));
    }
    for (const fd of this.takeSockets()) sys.close(fd);
    if (this.#pin !== null) nativeChild().close(this.#pin.pidfd);
    this.#pin = null;
  }
}
