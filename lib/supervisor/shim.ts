/**
 * A shim as its supervisor sees it: the process that was started beside a service (native/shim/shim.h), or one of an
 * earlier supervisor that is found at its socket. Turns calls into frames and frames into typed events; decides nothing.
 * The service is never a child of this process, so that nothing of it depends on how this process ends.
 */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { shimProgram } from '../native.ts';
import type { ExitStatus, SpawnedProcess, SpawnOptions, StdioTarget } from '../process/contract.ts';
import { exitStatus } from '../process/exit-status.ts';
import type { Loop } from '../process/loop.ts';
import { nativeSpawn, Setting, STEPS } from '../process/native-spawn.ts';
import { type SpawnRequest, spawnRequest } from '../process/spawn-options.ts';
import { type SystemErrorDetails, stateError, systemError } from '../sys/errors.ts';
import * as sys from '../sys/index.ts';
import { signalName, signalNumber } from '../sys/signals.ts';
import { Wire } from './wire.ts';

/** A signal to everything of the service, and how long to wait for its end before the next step. */
export interface StopStep {
  readonly signal: string | number;
  /** ms */
  readonly wait: number;
}

/** `relay`: over the shim, which keeps the last of what nobody hears. Only for stdout and stderr. */
export type ServiceStdio = StdioTarget | 'relay';

export interface ShimOptions {
  readonly command: readonly [string, ...string[]];
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Default: nothing to read, and our own stdout and stderr. */
  readonly stdio?: {
    readonly stdin?: StdioTarget;
    readonly stdout?: ServiceStdio;
    readonly stderr?: ServiceStdio;
  };
  /** Descriptors of ours that the service gets, from 3 on. With some, LISTEN_FDS and LISTEN_PID are set. */
  readonly sockets?: readonly number[];
  /** For LISTEN_FDNAMES, one for each. */
  readonly socketNames?: readonly string[];
  readonly settings?: Pick<
    SpawnOptions,
    'cwd' | 'uid' | 'gid' | 'groups' | 'umask' | 'nice' | 'rlimits' | 'title'
  >;
  readonly group?: 'new' | 'session';
  /** Held for as long as anything of the service runs. */
  readonly lock?: string;
  /** `head` is an object: the shim adds pid, startTime, groupId and itself. */
  readonly record?: { readonly path: string; readonly head: object };
  /** Lives on without us. `lease`: for so many ms after the last beat (0: for ever). `path`: where it is found again. */
  readonly independent?: { readonly path: string; readonly lease: number };
  /** What the shim does when we are gone, or the lease is over. */
  readonly orphaned: readonly StopStep[];
}

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
  /** Nothing of the service is left; its record is gone. */
  empty(): void;
  /** A step of a stop sequence: to whom the signal went. */
  signalled(signal: string, to: readonly number[], error: Error | null): void;
  /** The last step did not end them. After a SIGKILL it is tried again and again. */
  stuck(left: readonly number[]): void;
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
    }
  | { event: 'refused'; errno: number; step: number; fd: number; where: string }
  | { event: 'exited'; status: number; left: number[] }
  | { event: 'signalled'; signal: number; errno: number; to: number[] }
  | { event: 'delivered'; signal: number; errno: number }
  | { event: 'stuck'; left: number[] }
  | { event: 'busy'; pid: number }
  | { event: 'stopped' | 'continued' | 'empty' | 'lease-over' };

/** Where the service's further descriptors are in the shim, so that none is in another's way. */
const FIRST_GIVEN = 10;
const CONTROL = 3;
const LISTENER = 4;
const FIRST_SOCKET = 3;
/** Room for a number that only the shim will know. */
const PID_PLACE = '0000000000';

export class Shim {
  /** Null when it was adopted. */
  readonly process: SpawnedProcess | null;
  readonly #wire: Wire;
  readonly #events: ShimEvents;
  readonly #program: string;
  readonly #cwd: string | undefined;
  #pid = 0;
  #delivered: { signal: number; resolve: () => void; reject: (error: Error) => void }[] = [];

  /** Throws what keeps the shim itself from starting; what keeps the service from it is the event `refused`. */
  static start(loop: Loop, options: ShimOptions, events: ShimEvents): Shim {
    // A place of its own for each starter: the shim that gets the lock puts it where it shall be.
    const made = options.independent && `${options.independent.path}.${randomBytes(4).toString('hex')}`;
    const plan = planOf(options, made);
    const [mine, theirs] = sys.socketpair('stream');
    let listener: number | undefined;
    try {
      if (made !== undefined) listener = sys.listen({ path: made }, { backlog: 8 });
      const child = loop.spawn({
        command: [shimProgram()],
        env: { ...process.env, ...markOf(options.env) },
        // The terminal's signals are for the supervisor, and its end is none of an independent service.
        group: made === undefined ? 'new' : 'session',
        stdio: shimStdio(options, theirs, listener),
      });
      const shim = new Shim(loop, mine, events, child, options.command[0], options.settings?.cwd);
      shim.#wire.send('P', plan);
      return shim;
    } catch (error) {
      sys.close(mine);
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
    try {
      if (!isShim(sys.peerCredentials(fd))) throw stateError('STRANGER', `${path} is no shim's`);
    } catch (error) {
      sys.close(fd);
      throw error;
    }
    return new Shim(loop, fd, events, null, '');
  }

  private constructor(
    loop: Loop,
    fd: number,
    events: ShimEvents,
    child: SpawnedProcess | null,
    program: string,
    cwd?: string,
  ) {
    this.#events = events;
    this.process = child;
    this.#program = program;
    this.#cwd = cwd;
    this.#wire = new Wire(loop, fd, {
      onFrame: (kind, body) => this.#take(kind, body),
      onEnd: () => this.#end(),
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

  /** To the service's first process, or to everything of it. Rejected with ESRCH when it has ended. */
  signal(signal: string | number, whom: 'first' | 'all' = 'first'): Promise<void> {
    const number = signalNumber(signal);
    return new Promise((resolve, reject) => {
      if (!this.#wire.open) {
        reject(systemError(-sys.ESRCH, 'kill', { pid: this.#pid }));
        return;
      }
      this.#delivered.push({ signal: number, resolve, reject });
      this.#wire.send('K', bytesOf(Int32Array.of(number, whom === 'all' ? 1 : 0)));
    });
  }

  /** Begins a stop sequence, in place of one that is under way. Ends with `empty`, or with `stuck`. */
  stop(steps: readonly StopStep[]): void {
    const rows = steps.flatMap(({ signal, wait }) => [signalNumber(signal), milliseconds(wait)]);
    // Somebody may have stopped it; then it hears nothing.
    this.#wake();
    this.#wire.send('S', bytesOf(Int32Array.from(rows)));
  }

  #wake(): void {
    try {
      this.process?.kill('SIGCONT');
    } catch {
      // It has ended.
    }
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

  /** Its end was heard. An independent shim waits for this, with its lock, so that no end is lost. */
  dismiss(): void {
    this.#wire.send('D');
  }

  /** Lets go of it. What is coupled ends with that, as it would with us. */
  disconnect(): void {
    this.#wire.close();
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
        const { pid, startTime, shim, adopts, ready, run } = message;
        this.#pid = pid;
        events.started({
          pid,
          startTime: startTime < 0 ? null : startTime,
          shim,
          adopts: adopts === 1,
          ready: ready === 1,
          run,
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
        if (message.errno < 0) waiting?.reject(systemError(message.errno, 'kill', { pid: this.#pid }));
        else waiting?.resolve();
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
    const waiting = this.#delivered;
    this.#delivered = [];
    for (const { reject } of waiting) reject(systemError(-sys.ESRCH, 'kill', { pid: this.#pid }));
  }
}

// ------------------------------------------------------------------------------------------- what is sent

/** What tells the shim, and all of the service, from everything else. */
function markOf(env: Readonly<Record<string, string>>): Record<string, string> {
  const runId = env['FORKBEARD_RUN_ID'];
  return runId === undefined ? {} : { FORKBEARD_RUN_ID: runId };
}

const STREAMS = ['stdin', 'stdout', 'stderr'] as const;

/** The shim gets the service's own descriptors, and lets go of them when the service has them. */
function shimStdio(
  { stdio = {}, sockets = [] }: ShimOptions,
  control: number,
  listener: number | undefined,
): Record<number, StdioTarget> {
  const targets: Record<number, StdioTarget> = { [CONTROL]: control };
  STREAMS.forEach((name, fd) => {
    const target = stdio[name] ?? (fd === 0 ? 'ignore' : 'inherit');
    targets[fd] = target === 'relay' || target === 'close' ? 'ignore' : target;
  });
  if (listener !== undefined) targets[LISTENER] = listener;
  sockets.forEach((fd, index) => {
    targets[FIRST_GIVEN + index] = fd;
  });
  return targets;
}

function requestOf(options: ShimOptions): SpawnRequest {
  const { command, env, stdio = {}, sockets = [], settings = {}, group = 'new' } = options;
  const targets: Record<number, StdioTarget> = {};
  STREAMS.forEach((name, fd) => {
    const target = stdio[name];
    targets[fd] = target === 'relay' ? 'pipe' : target === 'close' ? 'close' : fd;
  });
  sockets.forEach((_, index) => {
    targets[FIRST_SOCKET + index] = FIRST_GIVEN + index;
  });
  const activation: Record<string, string> = {};
  if (sockets.length > 0) {
    activation['LISTEN_FDS'] = String(sockets.length);
    activation['LISTEN_PID'] = PID_PLACE;
    if (options.socketNames !== undefined) activation['LISTEN_FDNAMES'] = options.socketNames.join(':');
  }
  const request = spawnRequest({
    ...settings,
    command,
    env: { ...env, ...activation },
    stdio: targets,
    group,
  });
  // Set here and not by the option, which is about this process: the one that may end is the shim.
  if (options.independent === undefined && nativeSpawn().hasDeathSignal) {
    request.settings[Setting.DEATH_SIGNAL] = signalNumber('SIGKILL');
  }
  return request;
}

function planOf(options: ShimOptions, made: string | undefined): Buffer {
  const request = requestOf(options);
  const { lock, record, independent, orphaned } = options;
  const life: string[] = [];
  const runId = options.env['FORKBEARD_RUN_ID'];
  // It comes back in JSON.
  if (runId !== undefined && /^[\w-]+$/.test(runId)) life.push(`run=${runId}`);
  if (lock !== undefined) life.push(`lock=${lock}`);
  if (record !== undefined) {
    life.push(`record=${record.path}`, `record-head=${JSON.stringify(record.head).slice(0, -1)}`);
  }
  if (independent !== undefined) {
    life.push('independent=1', `lease=${milliseconds(independent.lease)}`);
    life.push(`listener=${LISTENER}`, `listener-path=${independent.path}`, `listener-made=${made}`);
  }
  for (const { signal, wait } of orphaned)
    life.push(`orphaned=${signalNumber(signal)} ${milliseconds(wait)}`);
  const sections = [
    request.arguments,
    request.environment ?? '',
    request.candidates,
    request.directory,
    request.paths,
    request.rows,
    request.settings,
    life.map((line) => `${line}\0`).join(''),
  ].map((part) => (typeof part === 'string' ? Buffer.from(part) : bytesOf(part)));
  return Buffer.concat(
    sections.flatMap((section) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(section.length);
      return [length, section];
    }),
  );
}

/** As the shim counts them. For ever is 24 days: no step of a stop is meant to take longer. */
function milliseconds(ms: number): number {
  return Math.min(Math.ceil(ms), 0x7fff_ffff);
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);
}
