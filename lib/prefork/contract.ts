/** The public types of the prefork server, as users and declaration files see them. Types only. */
import type { EventEmitter } from 'node:events';
import type { Server as HttpServer, RequestListener } from 'node:http';

/** Milliseconds as a number, or '500ms', '30s', '5m', '2h'. */
export type Duration = number | string;
/** Bytes as a number, or '300mb', '2gb', '512k'. */
export type Size = number | string;

/** Every option of `forkbeard serve`, under its name in camel case. */
export interface PreforkOptions {
  /** Path or URL of the module whose default export is the application. */
  application: string;
  /** Default 'auto': the CPUs that are available, a cgroup's quota counted. */
  workers?: number | 'auto';
  /** 'tcp://127.0.0.1:3000', 'unix:///run/app.sock', 'fd://3'. Default: systemd's LISTEN_FDS, else 'tcp://127.0.0.1:3000'. */
  listen?: string | readonly string[];
  /** Default 'auto': fork where this machine and the application allow it, else spawn, and say why. */
  spawnMethod?: 'auto' | 'fork' | 'spawn';
  /** A listening socket per worker (SO_REUSEPORT) instead of one that all share. Default false. */
  reusePort?: boolean;
  /** Connections that may wait in the kernel. Default 2048. */
  backlog?: number;
  /** Until a worker must be ready. Default 30 s. */
  bootTimeout?: Duration;
  /** What a worker gets to finish what is in flight. Default 30 s. */
  gracefulTimeout?: Duration;
  /** How long a worker's event loop may stand still. Default 30 s; 0: for ever. */
  blockedTimeout?: Duration;
  /** How long a request may take: then it is told in the log (with the JavaScript stack), and two seconds later its worker is killed. Default 0: for ever. */
  requestTimeout?: Duration;
  /** Per worker; more wait in the kernel. Default 0: no limit. */
  maxConnections?: number;
  /** Per worker; at the limit no connection is accepted. Default 0: no limit. */
  maxRequestsInFlight?: number;
  /** Requests after which a worker is replaced. Default 0: never. */
  maxRequests?: number;
  /** Age at which a worker is replaced. Default 0: never. */
  maxLifetime?: Duration;
  /** Private memory (USS) at which a worker is replaced. Default 0: never. */
  maxMemory?: Size;
  /** By how much limits of age and requests differ from worker to worker, in percent. Default 10. */
  jitter?: number;
  /** Requests of the warmest worker after which it becomes the mold of the others, generation by generation. Default: never. */
  reforkAfter?: readonly number[];
  /** Path of the control socket; false for none. Default: one in a directory of this user's. */
  control?: string | false;
  /** 'tcp://127.0.0.1:9100': where /metrics, /livez and /readyz answer. */
  metrics?: string;
  pidFile?: string;
  envFile?: string | readonly string[];
  /** Variables set in the application's processes, after the files. */
  env?: Readonly<Record<string, string>>;
  /** Whom the application's processes become, by name or number. */
  user?: string | number;
  group?: string | number;
  /** Octal. */
  umask?: string | number;
  /** 'nofile', 'core', 'as', …: one number for both, or soft and hard. 'unlimited' is no limit. */
  rlimits?: Readonly<Record<string, Limit | { soft: Limit; hard?: Limit }>>;
  chdir?: string;
  /** Shown in process titles. Default: the application's name. */
  title?: string;
  /** Default: 'pretty' on a terminal, else 'json'. A program gets a log when it names a format or a file; the command always. */
  logFormat?: 'pretty' | 'json';
  logFile?: string;
}

export type Limit = number | 'unlimited';

/** What an application's module may export beside its default export. */
export interface ApplicationHooks {
  /** In the mold, before each fork: close what must not be shared (connections, timers). */
  beforeFork?: () => void | Promise<void>;
  /** In each worker, before it accepts: open what is a worker's own. Runs in spawned workers as well. */
  afterFork?: (worker: WorkerInfo) => void | Promise<void>;
  /** In each worker, once it accepts. */
  onReady?: (worker: WorkerInfo) => void | Promise<void>;
  /** In each worker, when it is told to leave: say goodbye to long connections. Awaited within the graceful timeout. */
  onStop?: (worker: WorkerInfo) => void | Promise<void>;
  /** A request has taken `requestTimeout`. */
  onRequestTimeout?: (request: SlowRequest, worker: WorkerInfo) => void;
}

/** The default export of an application's module. */
export type Application =
  | RequestListener
  | HttpServer
  | ((worker: WorkerInfo) => RequestListener | HttpServer | Promise<RequestListener | HttpServer>);

export interface WorkerInfo {
  /** Stable number of its place in the pool, from 1. */
  id: number;
  pid: number;
  /** Counts the application's loads, from 1. */
  generation: number;
  /** How it came to be. */
  method: 'fork' | 'spawn';
}

export interface SlowRequest {
  method: string;
  url: string;
  /** ms */
  age: number;
}

/** Why a worker ended. The README's table of exit codes says what follows from each. */
export type ExitCause =
  | 'drained'
  | 'recycled'
  | 'boot'
  | 'address-in-use'
  | 'no-permission'
  | 'out-of-descriptors'
  | 'out-of-kernel-memory'
  | 'unsafe-fork'
  | 'lost-monitor'
  | 'memory'
  | 'heap-limit'
  | 'kernel-oom'
  | 'system'
  | 'uncaught'
  | 'request-deadline'
  | 'blocked-loop'
  | 'boot-deadline'
  | 'graceful-deadline'
  | 'crash'
  | 'operator';

/** One for every worker that ends. Times in ms, memory in bytes. */
export interface ExitRecord {
  worker: number;
  pid: number;
  generation: number;
  method: 'fork' | 'spawn';
  cause: ExitCause;
  exitCode: number | null;
  signal: string | null;
  age: number;
  ready: boolean;
  requests: number;
  inFlight: number;
  /** Last known; null when it could not be sampled. */
  memory: WorkerMemory | null;
  /** What a worker that was recycled has had enough of. */
  reason?: 'requests' | 'lifetime' | 'memory';
  /** The JavaScript stack of a worker that hung, or of what kept it from starting. */
  stack?: string;
  /** The oldest request in flight at the end. */
  request?: string;
  /** What it said of its failure. */
  message?: string;
}

export interface WorkerMemory {
  rss: number;
  pss: number;
  /** Private: what its end would give back. */
  uss: number;
}

export type WorkerState = 'starting' | 'ready' | 'draining' | 'ended';

export interface WorkerStatus extends WorkerInfo {
  state: WorkerState;
  /** ms */
  age: number;
  requests: number;
  inFlight: number;
  connections: number;
  /** Delay of its event loop, ms. */
  lag: number;
  memory: WorkerMemory | null;
  /** Why it accepts nothing at the moment, if so. */
  paused: '' | 'connections' | 'requests' | 'descriptors';
}

export interface PreforkStatus {
  version: 1;
  pid: number;
  state: 'starting' | 'ready' | 'reloading' | 'draining' | 'stopping' | 'stopped';
  application: string;
  method: 'fork' | 'spawn';
  /** Why workers are spawned although 'auto' would have forked; empty when they are forked. */
  reason: string;
  generation: number;
  listen: string[];
  /** How many workers there should be. */
  target: number;
  ready: number;
  workers: WorkerStatus[];
  /** Ends by cause since the start. */
  exits: Partial<Record<ExitCause, number>>;
}

/** Names are also the `event` of a JSON log line; fields are its fields. */
export interface PreforkEvents {
  listening: [{ listen: string[] }];
  method: [{ method: 'fork' | 'spawn'; reason: string }];
  'mold-ready': [{ pid: number; generation: number; ms: number }];
  'mold-exit': [
    {
      pid: number;
      generation: number;
      cause: ExitCause;
      exitCode: number | null;
      signal: string | null;
      message?: string;
      /** Where in the application that was. */
      stack?: string;
    },
  ];
  'worker-started': [WorkerInfo];
  'worker-ready': [WorkerInfo & { ms: number }];
  'worker-exit': [ExitRecord];
  'worker-paused': [{ worker: number; pid: number; reason: string }];
  'worker-resumed': [{ worker: number; pid: number }];
  /** A worker's loop stands still, or a request takes too long: told before anything is killed. */
  'worker-slow': [
    {
      worker: number;
      pid: number;
      reason: 'blocked-loop' | 'request';
      age: number;
      request?: string;
      stack?: string;
    },
  ];
  backoff: [{ worker: number; cause: ExitCause; delay: number; failures: number }];
  /** As many workers as there should be are ready. */
  ready: [{ workers: number; generation: number; ms: number }];
  'reload-started': [{ generation: number }];
  'reload-done': [{ generation: number; ms: number }];
  'reload-failed': [{ generation: number; message: string }];
  refork: [{ worker: number; generation: number }];
  'upgrade-started': [{ pid: number }];
  'upgrade-done': [{ pid: number }];
  'upgrade-failed': [{ message: string }];
  scaled: [{ from: number; to: number }];
  /** Log files are to be opened anew (USR1, `reopenLogs`). */
  'logs-reopened': [{ cause: string }];
  stopping: [{ how: 'graceful' | 'quick'; cause: string }];
  stopped: [{ code: number }];
  warning: [{ message: string; code?: string }];
}

/** A running prefork server: the monitor's side. */
export interface PreforkServer extends EventEmitter<PreforkEvents> {
  readonly pid: number;
  /** Fulfilled when all workers are ready for the first time; rejected when that can never be. */
  readonly ready: Promise<void>;
  /** Fulfilled with the exit code that the monitor should end with, when nothing is left running. */
  readonly closed: Promise<number>;
  status(): PreforkStatus;
  /** New mold, new workers, one after the other; rejected, with the old ones serving on, when the application does not load. */
  reload(): Promise<void>;
  scale(workers: number): Promise<void>;
  /** Stops all workers gracefully and keeps the monitor and the listeners; `reload` or `scale` brings workers back. */
  drain(): Promise<void>;
  /** A new monitor takes over the listeners; rejected, with this one serving on, when it does not become ready. */
  upgrade(): Promise<void>;
  /** Graceful unless `quick`. Fulfilled when nothing is left running. */
  stop(options?: { quick?: boolean }): Promise<number>;
  /** SIGKILL to the worker of that place; it is replaced. */
  kill(worker: number): void;
  reopenLogs(): void;
  [Symbol.asyncDispose](): Promise<void>;
}
