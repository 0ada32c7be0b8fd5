/** The public types of the processes' floor, as users and declaration files see them. Types only. */
import type { Duplex, Readable, Writable } from 'node:stream';
import type { Loop } from './loop.ts';

/** 'TERM' and 'SIGTERM' both name signal 15; numbers are accepted too. */
export type SignalName = string;

export interface SignalInfo {
  /** Its name with SIG: 'SIGTERM', 'SIGRTMIN+3'. */
  signal: string;
  number: number;
  /** Deliveries that this callback stands for (standard signals coalesce in the kernel). */
  count: number;
  /** The sender; for SIGCHLD the child. Absent when it was no process, but a terminal or a timer. */
  pid?: number;
  /** The sender's real user id. */
  uid?: number;
  /** si_code: why it was sent (SI_USER 0, SI_QUEUE -1, CLD_EXITED 1, …). */
  code?: number;
  /** sigqueue's value. */
  value?: number;
}

/** How a process ended. `exitCode` and `signal` are never both set. */
export interface ExitStatus {
  pid: number;
  exitCode: number | null;
  signal: string | null;
  coreDumped: boolean;
  /** The raw wait status; null when somebody else reaped the child (`stolen`) or it is not our child. */
  status: number | null;
  stolen: boolean;
}

export interface ChildProcess {
  readonly pid: number;
  /** Resolves once, when the process has ended. Never rejects. */
  readonly exited: Promise<ExitStatus>;
  /** Null while it runs. */
  readonly exit: ExitStatus | null;
  /** Never reaches a stranger: throws ESRCH once the process has ended. Default 'SIGTERM'. 0 asks whether it is there. */
  kill(signal?: SignalName | number): void;
  /**
   * SIGTERM (or `signal`) and SIGCONT, so that a stopped process hears it; SIGKILL after `graceMs` milliseconds
   * (default 5000). A child that leads a process group is stopped with all of it: the promise is fulfilled when the
   * group is empty. Rejected when the signal may not be sent (EPERM).
   */
  stop(options?: { signal?: SignalName | number; graceMs?: number }): Promise<ExitStatus>;
  /** A ref'ed child keeps this process alive, as Node's own do. Default: ref'ed. */
  ref(): this;
  unref(): this;
  /** `stop()`, awaited. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * What a descriptor of the child becomes. `inherit`: the parent's of the same number. `ignore`: /dev/null. `pipe`: a
 * stream of the SpawnedProcess. `close`: nothing. A number: a copy of that descriptor of the parent. `open`: a file,
 * opened by the child with the parent's rights, working directory and umask; `flags` as for `fs.open` (default 'r',
 * for stdout and stderr 'w'), `mode` default 0o666.
 */
export type StdioTarget =
  | 'inherit'
  | 'ignore'
  | 'pipe'
  | 'close'
  | number
  | { open: string; flags?: string; mode?: number };

/**
 * Whatever fails before the program runs is thrown by `spawn` itself, with the failing step in `step` ('chdir',
 * 'setuid', 'exec', …); ENOEXEC is such a failure (no shell steps in).
 */
export interface SpawnOptions {
  /**
   * Program and arguments. A string is split by no shell: it is the program. Without a slash it is looked up in the
   * PATH of `env` if that has one, else in ours.
   */
  command: string | readonly [string, ...string[]];
  /** Child descriptor to what it becomes. 0 to 2 default to 'inherit'; every other descriptor is closed. */
  stdio?: Partial<Record<number | 'stdin' | 'stdout' | 'stderr', StdioTarget>>;
  /** The whole environment. Default: ours, `process.env`. */
  env?: Record<string, string | undefined>;
  cwd?: string;
  /** Real, effective and saved user id. Give `gid` too: the group of the parent stays otherwise. */
  uid?: number;
  gid?: number;
  /** Default, when `uid` or `gid` is given and we may: none but `gid`. */
  groups?: readonly number[];
  umask?: number;
  /** Added to our own niceness, as nice(1) does. */
  nice?: number;
  /** 'nofile', 'core', 'as', …; Infinity is no limit; `hard` stays without a value. */
  rlimits?: Record<string, { soft: number; hard?: number }>;
  /** 'new': own process group; 'session': setsid; a number: join that group. */
  group?: 'inherit' | 'new' | 'session' | number;
  /** Signal the child gets when this process dies (Linux, FreeBSD). From the main thread only. */
  parentDeathSignal?: SignalName | number;
  /** argv[0]. */
  title?: string;
  onExit?: (exit: ExitStatus) => void;
}

export interface SpawnedProcess extends ChildProcess {
  /** Null unless it is a 'pipe'. Closed when the program has ended. */
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
  /** By the child's descriptor; the first three are those above. */
  readonly stdio: ReadonlyArray<Duplex | null>;
  /** The process group that the child leads, stored at the spawn; 0 if it leads none. */
  readonly groupId: number;
  /** Signals the whole group. Throws ESRCH once it is empty, ERR_FORKBEARD_GROUP_NOT_OWNED if the child leads none. */
  killGroup(signal?: SignalName | number): void;
}

/**
 * Rejections (ERR_FORKBEARD_TIMEOUT, _MAX_BUFFER, _EXIT with `failOnNonzero`, AbortError) carry the fields of
 * RunProcessResult.
 */
export interface RunProcessOptions extends Omit<SpawnOptions, 'stdio' | 'onExit'> {
  /** What the program reads, then the end. Default: nothing (/dev/null). */
  stdin?: string | Uint8Array;
  /** Aborting sends `cancelSignal`. */
  signal?: AbortSignal;
  /**
   * Sent when the run is aborted, takes too long or says too much; to all of its group if the program leads one.
   * SIGKILL follows after five seconds. Default 'SIGTERM'.
   */
  cancelSignal?: SignalName | number;
  /** Milliseconds. Default: no limit. */
  timeout?: number;
  /** Reject when the program ends with another code than 0, or by a signal. Default false. */
  failOnNonzero?: boolean;
  /** Of the results. Default 'utf8'. */
  encoding?: BufferEncoding | 'buffer';
  /** Bytes of stdout, and of stderr, at most. Default 128 MiB. */
  maxBuffer?: number;
}

export interface RunProcessResult extends ExitStatus {
  stdout: string | Buffer;
  stderr: string | Buffer;
  /**
   * True when something that the program left behind (a background process) still had the output open a second after
   * the program's end. What it says later is lost.
   */
  outputHeld: boolean;
}

// ---------------------------------------------------------------------------------------------- fork

export interface ForkContext {
  /** The child's own new loop: none of the parent's watchers is in it. */
  loop: Loop;
  pid: number;
  parentPid: number;
}

export interface ForkOptions {
  /**
   * What the child does, in the async context of the call. A number, or a promise of one, ends the child with that
   * exit code at once. Without a number it lives as a Node process lives: until nothing is left to do, then
   * `process.exitCode ?? 0`. A promise that nothing can settle any more: 13 and a line on stderr, as Node does. A throw
   * or rejection is printed to stderr and gives 255. `process.exit` works; `exit` listeners that the child registered
   * run, stdio is flushed. The child never returns into the caller. In it, from the fork on: no timer, immediate, tick,
   * promise reaction, handle, loop watcher or process listener ('exit', 'uncaughtException', signals, IPC) of the
   * parent runs; idle connections of `http.globalAgent` and of the built-in `fetch` are forgotten; `Math.random`,
   * `randomUUID`, `randomInt` and `randomBytes` go other ways than the parent's and siblings'; a Loop object of the
   * parent throws ERR_FORKBEARD_LOOP_FORKED, except `postFork()`, which makes it the child's, and `close()`.
   */
  // biome-ignore lint/suspicious/noConfusingVoidType: code without a return statement is meant.
  code: (context: ForkContext) => number | void | Promise<number | void>;
  /** Once, from the loop, when the child has ended. */
  onExit?: (exit: ExitStatus) => void;
  /**
   * Default false: every signal handler of the parent is reset to the default; ignored ones stay ignored. True keeps
   * dispositions and `process.on` listeners; loop watchers go in any case.
   */
  keepSignals?: boolean;
  /**
   * Descriptors, besides 0 to 2, that stay open in the child. Default 'all' keeps plain descriptors open; sockets and
   * pipes behind the parent's Node handles are cut off in the child unless named here. A list closes what it does not
   * name; forkbeard's and Node's own descriptors take care of themselves.
   */
  inherit?: 'all' | readonly number[];
  /**
   * What becomes of the parent's Node handles that are cut off: nothing ever happens on them ('silence', default), or
   * they see the end of their connection, so that pools reconnect ('close').
   */
  parentHandles?: 'silence' | 'close';
  /**
   * The child is no child of this process but of the nearest subreaper above it (`becomeSubreaper`), or of init: a
   * process in between forks it and ends, and is reaped before anybody is told. `exited` is then fulfilled without
   * status, as that of any process that is not ours; signals go by pidfd and never reach a stranger (ENOSYS where there
   * are no pidfds). A process that is the nearest subreaper itself gets the child back as its own. Default false.
   */
  detached?: boolean;
  /** Process title of the child. */
  title?: string;
  /**
   * 'strict' (default): refuse, with ERR_FORKBEARD_FORK_UNSAFE, while `forkSafety()` names a blocking hazard. 'warn'
   * goes ahead with a process warning, 'off' without.
   */
  safety?: 'strict' | 'warn' | 'off';
  /** How long to wait for a quiet moment before failing with ERR_FORKBEARD_FORK_BUSY, ms. Default 5000. */
  quiesceTimeout?: number;
}

export interface ForkedProcess extends ChildProcess {}

/**
 * `call` rejects with what `code` threw (name, message, stack, code, cause and own properties kept), or with
 * ERR_FORKBEARD_CALL_DIED carrying `exitCode` and `signal` when the child ended without an answer.
 */
export interface CallOptions {
  /** Kills the child and rejects with ERR_FORKBEARD_CALL_TIMEOUT. Milliseconds. */
  timeout?: number;
  /** Aborting kills the child and rejects with an AbortError. */
  signal?: AbortSignal;
  /** Upper bound of the child's resident memory in bytes; beyond it: ERR_FORKBEARD_CALL_MEMORY. */
  maxMemory?: number;
}

export interface ForkHazard {
  /** 'WORKER_THREADS', 'INSPECTOR', 'UV_REQUESTS', 'UNKNOWN_THREADS', 'TIMERS', 'HANDLES', … */
  code: string;
  /** What it is and what to do about it. */
  message: string;
  blocking: boolean;
}

export interface ForkSafety {
  /** 'fork' when nothing blocks, else 'spawn': what a spawn-method negotiation should choose. */
  method: 'fork' | 'spawn';
  /** How V8's background threads are dealt with in the child. */
  v8: 'workers-recreated' | 'single-threaded' | 'unsupported';
  hazards: ForkHazard[];
}
