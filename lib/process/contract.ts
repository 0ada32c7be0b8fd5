/** The public types of the processes' floor, as users and declaration files see them. Types only. */

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
