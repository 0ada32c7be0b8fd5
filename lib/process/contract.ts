/** The public types of the processes' floor, as users and declaration files see them. Types only. */
import type { Duplex, Readable, Writable } from 'node:stream';

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
