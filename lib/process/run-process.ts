/**
 * `runProcess`: a program from its start to its end, with what it says. Reads and writes the pipes through the loop
 * itself, without streams, so it works in both ways of running. The promise is settled when the program has ended and
 * its output was read, and never without the program having ended.
 */
import type { IoWatcher, TimeWatcher } from '../loop/contract.ts';
import type { EventLoop } from '../loop/loop.ts';
import {
  abortError,
  checkAbortSignal,
  checkBoolean,
  checkInteger,
  checkKeys,
  checkObject,
  invalidType,
  invalidValue,
  outOfRange,
  stateError,
} from '../sys/errors.ts';
import * as sys from '../sys/index.ts';
import { signalNumber } from '../sys/signals.ts';
import { ChildHandle } from './child.ts';
import type {
  ExitStatus,
  RunProcessOptions,
  RunProcessResult,
  SignalName,
  SpawnOptions,
} from './contract.ts';
import { exitWithoutStatus } from './exit-status.ts';
import { PipeEnd } from './pipe-end.ts';
import type { Dependent, Programs } from './programs.ts';
import { launch } from './spawn.ts';
import { SPAWN_OPTIONS, type SpawnRequest, spawnRequest } from './spawn-options.ts';

/** More than a program has to say whom nobody limits, and less than would hurt. */
const DEFAULT_MAX_BUFFER = 128 * 1024 * 1024;
/** How long the output may stay open after the end of the program, ms. */
const PATIENCE = 1000;
/** What a pipe holds by default: read in one piece. */
const CHUNK = 65_536;

/** Options that are not `spawn`'s. */
const OWN_OPTIONS = [
  'stdin',
  'signal',
  'cancelSignal',
  'timeout',
  'failOnNonzero',
  'encoding',
  'maxBuffer',
] as const satisfies readonly (keyof RunProcessOptions)[];

const OPTIONS: readonly string[] = [
  ...SPAWN_OPTIONS.filter((name) => name !== 'stdio' && name !== 'onExit'),
  ...OWN_OPTIONS,
];

interface Settings {
  readonly request: SpawnRequest;
  readonly command: string;
  readonly stdin: Uint8Array | undefined;
  readonly signal: AbortSignal | undefined;
  readonly cancelSignal: number;
  readonly timeout: number | undefined;
  readonly failOnNonzero: boolean;
  readonly encoding: BufferEncoding | 'buffer';
  readonly maxBuffer: number;
}

/** Runs a program to its end and captures what it says. */
export async function runProcess(programs: Programs, options: RunProcessOptions): Promise<RunProcessResult> {
  const settings = checkOptions(options);
  if (settings.signal?.aborted) throw Object.assign(abortError(settings.signal), nothingRan(settings));
  return new Promise((resolve, reject) => {
    programs.exits.host.ready();
    new Run(programs, settings, resolve, reject);
  });
}

/** The result of a run that was called off before it began: of no process, as child_process.spawnSync has it. */
function nothingRan({ encoding }: Settings): RunProcessResult {
  const nothing = encoding === 'buffer' ? Buffer.alloc(0) : '';
  return { ...exitWithoutStatus(0, false), stdout: nothing, stderr: nothing, outputHeld: false };
}

function checkOptions(options: RunProcessOptions): Settings {
  checkObject(options, 'options');
  checkKeys(options, OPTIONS, 'option of runProcess');
  const { stdin, signal, cancelSignal = 'SIGTERM', timeout, failOnNonzero = false } = options;
  const { encoding = 'utf8', maxBuffer = DEFAULT_MAX_BUFFER } = options;
  if (stdin !== undefined && typeof stdin !== 'string' && !(stdin instanceof Uint8Array))
    throw invalidType('options.stdin', 'a string or a Uint8Array', stdin);
  checkAbortSignal(signal);
  if (timeout !== undefined) {
    if (typeof timeout !== 'number') throw invalidType('options.timeout', 'a number', timeout);
    if (!(timeout >= 0)) throw outOfRange('options.timeout', '>= 0', timeout);
  }
  checkBoolean(failOnNonzero, 'options.failOnNonzero');
  if (encoding !== 'buffer' && !Buffer.isEncoding(encoding))
    throw invalidValue('options.encoding', "a Node encoding or 'buffer'", encoding);
  if (maxBuffer !== Number.POSITIVE_INFINITY)
    checkInteger(maxBuffer, 'options.maxBuffer', 0, Number.MAX_SAFE_INTEGER);
  const forSpawn: Record<string, unknown> = {
    stdio: { stdin: stdin === undefined ? 'ignore' : 'pipe', stdout: 'pipe', stderr: 'pipe' },
  };
  for (const name of Object.keys(options))
    if (!OWN_OPTIONS.includes(name as never)) forSpawn[name] = options[name as keyof RunProcessOptions];
  const request = spawnRequest(forSpawn as unknown as SpawnOptions);
  const { command } = options;
  return {
    request,
    command: typeof command === 'string' ? command : command.join(' '),
    // A copy: it may take a while to write, and the caller's buffer is the caller's.
    stdin: stdin === undefined ? undefined : Buffer.from(stdin as string),
    signal,
    cancelSignal: signalNumber(cancelSignal),
    timeout,
    failOnNonzero,
    encoding,
    maxBuffer,
  };
}

// ------------------------------------------------------------------------------------------------- one run

class Run implements Dependent {
  readonly #settings: Settings;
  readonly #programs: Programs;
  readonly #resolve: (result: RunProcessResult) => void;
  readonly #reject: (error: Error) => void;
  readonly #child: ChildHandle;
  readonly #stdout: Capture;
  readonly #stderr: Capture;
  readonly #stdin: Feed | undefined;
  readonly #limit: TimeWatcher | undefined;
  readonly #onAbort: () => void;
  #patience: TimeWatcher | undefined;
  #exit: ExitStatus | undefined;
  /** Why it was stopped, the first reason. */
  #failure: Error | undefined;
  #held = false;
  /** Until nothing is left of it, its group included. */
  #abandoning = false;
  #over = false;

  constructor(
    programs: Programs,
    settings: Settings,
    resolve: (result: RunProcessResult) => void,
    reject: (error: Error) => void,
  ) {
    this.#programs = programs;
    this.#settings = settings;
    this.#resolve = resolve;
    this.#reject = reject;
    const { request, signal, timeout, stdin, maxBuffer } = settings;
    const { loop } = programs;
    const { pid, pidfd, ends } = launch(request);
    const { leadsGroup } = request;
    this.#child = new ChildHandle(programs.exits, {
      pid,
      pidfd,
      leadsGroup,
      onExit: (exit) => this.#ended(exit),
    });
    const overflow = () =>
      this.#fail(stateError('MAX_BUFFER', this.#says(`said more than ${maxBuffer} bytes`)));
    const finished = () => this.#settleIfDone();
    this.#stdout = new Capture(ends.get(1) as number, maxBuffer, finished, overflow);
    this.#stderr = new Capture(ends.get(2) as number, maxBuffer, finished, overflow);
    this.#stdin = stdin === undefined ? undefined : new Feed(ends.get(0) as number, stdin);
    programs.add(this);
    this.#onAbort = () => this.#cancel(abortError(signal as AbortSignal));
    signal?.addEventListener('abort', this.#onAbort);
    if (timeout !== undefined && timeout !== Number.POSITIVE_INFINITY) {
      this.#limit = loop.watchTime({ after: timeout }, () =>
        this.#cancel(stateError('TIMEOUT', this.#says(`did not end within ${timeout} ms`))),
      );
    }
    try {
      this.#stdout.start(loop);
      this.#stderr.start(loop);
      this.#stdin?.start(loop);
    } catch (error) {
      this.#abandon(error as Error);
    }
  }

  /** The loop closes: nobody will read for us any more. The program goes on. */
  loopClosed(): void {
    this.#finish();
    this.#reject(stateError('LOOP_CLOSED', 'The loop was closed while the program ran'));
  }

  #says(what: string): string {
    return `Program ${what}: ${this.#settings.command}`;
  }

  /** Takes too long or is not wanted any more. A program that has ended meanwhile has made it in time. */
  #cancel(reason: Error): void {
    if (this.#exit === undefined) this.#fail(reason);
  }

  #fail(reason: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    if (this.#exit === undefined) void this.#stop(this.#settings.cancelSignal);
  }

  async #stop(signal: SignalName | number): Promise<void> {
    try {
      await this.#child.stop({ signal });
    } catch (error) {
      // Refused (the program changed its user): we still wait for its end, and the error says why it took so long.
      if (this.#failure !== undefined) this.#failure.cause ??= error;
    }
  }

  /** The kernel has no room to watch what leads to a program that runs already: it can only be ended. */
  #abandon(reason: Error): void {
    this.#failure = Object.assign(reason, { step: 'watch' });
    this.#abandoning = true;
    void this.#stop('SIGKILL').then(() => {
      this.#abandoning = false;
      this.#settleIfDone();
    });
    this.#stdin?.close();
    this.#stdout.close();
    this.#stderr.close();
  }

  #ended(exit: ExitStatus): void {
    // The loop was closed: another one saw the end, and the promise is settled.
    if (this.#over) return;
    this.#exit = exit;
    this.#stdin?.close();
    this.#patience = this.#programs.loop.watchTime({ after: PATIENCE }, () => {
      this.#held = !(this.#stdout.done && this.#stderr.done);
      this.#stdout.close();
      this.#stderr.close();
      this.#settleIfDone();
    });
    this.#settleIfDone();
  }

  #settleIfDone(): void {
    if (this.#exit === undefined || this.#abandoning || !this.#stdout.done || !this.#stderr.done) return;
    this.#finish();
    const { encoding, failOnNonzero } = this.#settings;
    let result: RunProcessResult;
    try {
      result = {
        ...this.#exit,
        stdout: this.#stdout.take(encoding),
        stderr: this.#stderr.take(encoding),
        outputHeld: this.#held,
      };
    } catch (error) {
      // More than a string can hold (ERR_STRING_TOO_LONG), or than there is memory for.
      this.#reject(Object.assign(error as Error, this.#exit));
      return;
    }
    let failure = this.#failure;
    if (failure === undefined && failOnNonzero && this.#exit.exitCode !== 0) {
      const { exitCode, signal, stolen } = this.#exit;
      const code = stolen ? 'an unknown exit code: somebody else reaped it' : `exit code ${exitCode}`;
      const how = signal === null ? `failed with ${code}` : `was ended by ${signal}`;
      failure = stateError('EXIT', this.#says(how));
    }
    if (failure === undefined) this.#resolve(result);
    else this.#reject(Object.assign(failure, result));
  }

  #finish(): void {
    this.#over = true;
    this.#programs.remove(this);
    this.#settings.signal?.removeEventListener('abort', this.#onAbort);
    this.#limit?.stop();
    this.#patience?.stop();
    this.#stdin?.close();
    this.#stdout.close();
    this.#stderr.close();
  }
}

/** Reads a descriptor to its end. */
class Capture {
  readonly #chunks: Buffer[] = [];
  #watcher: IoWatcher | undefined;
  readonly #limit: number;
  readonly #finished: () => void;
  readonly #overflow: () => void;
  readonly #end: PipeEnd;
  #bytes = 0;
  #buffer: Buffer | undefined;

  constructor(fd: number, limit: number, finished: () => void, overflow: () => void) {
    this.#end = new PipeEnd(fd);
    this.#limit = limit;
    this.#finished = finished;
    this.#overflow = overflow;
  }

  /** Throws when the kernel has no room. */
  start(loop: EventLoop): void {
    this.#watcher = loop.watchIo(this.#end.fd, { onReadReady: () => this.#read() });
  }

  get done(): boolean {
    return this.#end.closed;
  }

  close(): void {
    this.#watcher?.stop();
    this.#buffer = undefined;
    this.#end.close();
  }

  take(encoding: BufferEncoding | 'buffer'): string | Buffer {
    const all = Buffer.concat(this.#chunks, this.#bytes);
    return encoding === 'buffer' ? all : all.toString(encoding);
  }

  #read(): void {
    this.#buffer ??= Buffer.allocUnsafeSlow(CHUNK);
    const count = sys.read(this.#end.fd, this.#buffer);
    if (count === -sys.EAGAIN) return;
    if (count <= 0) {
      // An error that a pipe can have (its reader's table is gone, EIO) is the end of what can be known.
      this.close();
      this.#finished();
      return;
    }
    const kept = Math.min(count, this.#limit - this.#bytes);
    this.#keep(kept);
    if (kept === count) return;
    this.close();
    this.#overflow();
    this.#finished();
  }

  /** Small pieces are copied, so that a line of output does not keep 64 KiB alive. */
  #keep(count: number): void {
    const chunk = (this.#buffer as Buffer).subarray(0, count);
    if (count < CHUNK / 4) {
      this.#chunks.push(Buffer.from(chunk));
    } else {
      this.#chunks.push(chunk);
      this.#buffer = undefined;
    }
    this.#bytes += count;
  }
}

/** Writes bytes to a descriptor and closes it; a reader that does not want them all is no error. */
class Feed {
  readonly #end: PipeEnd;
  readonly #bytes: Uint8Array;
  #watcher: IoWatcher | undefined;
  #at = 0;

  constructor(fd: number, bytes: Uint8Array) {
    this.#end = new PipeEnd(fd);
    this.#bytes = bytes;
  }

  /** Throws when the kernel has no room. What a pipe holds at once needs no watching. */
  start(loop: EventLoop): void {
    this.#write();
    if (!this.#end.closed) this.#watcher = loop.watchIo(this.#end.fd, { onWriteReady: () => this.#write() });
  }

  close(): void {
    this.#watcher?.stop();
    this.#end.close();
  }

  /** One call at a time, so that a fast reader cannot keep the loop from everybody else. */
  #write(): void {
    const count = this.#at === this.#bytes.length ? 0 : sys.write(this.#end.fd, this.#bytes, this.#at);
    if (count === -sys.EAGAIN) return;
    this.#at += count;
    if (count < 0 || this.#at === this.#bytes.length) this.close();
  }
}
