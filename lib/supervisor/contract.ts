/** The public types of the supervisor, as users, configuration files and declaration files see them. Types only. */
import type { EventEmitter } from 'node:events';
import type { ExitStatus } from '../process/contract.ts';
import type { Cause, Guarantee, ServiceEvent, ServiceStatus, StopReport } from './service-options.ts';

export type { ExitStatus } from '../process/contract.ts';
export type { Blocked, GatePolicy, Holder } from './gates.ts';
export type { Orphan } from './orphans.ts';
export type { ExitRule, RestartType } from './restart.ts';
export type { StopTaken } from './run.ts';
export type {
  Cause,
  Guarantee,
  ServiceEvent,
  ServiceStatus,
  StopReport,
  Unknown,
} from './service-options.ts';
export type { ServiceState } from './states.ts';

/** Milliseconds as a number, or '500ms', '30s', '5m', '2h'. */
export type Duration = number | string;

/**
 * What the end of one service does to its siblings. `one_for_one`: nothing. `one_for_all`: all are stopped, and started
 * again. `rest_for_one`: those that were started after it are; here each one waits for the one before it to be ready.
 */
export type Strategy = 'one_for_one' | 'one_for_all' | 'rest_for_one';

/**
 * `coupled`: it ends with the supervisor, however that ends. `supervised`: so it does, and the supervisor itself is looked
 * after by systemd or launchd. `independent`: it lives on without the supervisor, as long as its lease is, and the next
 * one adopts it. `distributed`: as coupled, under an orchestrator that asks and drains.
 */
export type Mode = 'coupled' | 'supervised' | 'independent' | 'distributed';

export interface IntensityOptions {
  /** Default 5. */
  restarts?: number;
  /** Default 10 s. */
  within?: Duration;
}

/** What a group of services, and the supervisor as the outermost of them, has. */
export interface GroupOptions {
  /** Default 'one_for_one'. */
  strategy?: Strategy;
  /**
   * More restarts than these are too many. With 'one_for_one' it is what each service has that says nothing else; with
   * the other strategies the restarts of the whole group are counted, which then gives up and stops.
   */
  intensity?: IntensityOptions;
  /** For services that say nothing else. Default 'coupled'. */
  mode?: Mode;
  /** For services that say nothing else: what is less is an error of the service. Default: nothing is. */
  require?: Guarantee;
  /** In the order in which they are started, dependencies apart. Names are unique over all groups. */
  services: Readonly<Record<string, ServiceSpec | GroupSpec>>;
}

/** The configuration of a supervisor: what the file of `forkbeard supervise` holds. */
export interface SupervisorOptions extends GroupOptions {
  /** Default: `$XDG_RUNTIME_DIR/forkbeard`, else a private directory under the temporary one. */
  stateDir?: string;
  /** Of the mode 'supervised'. systemd is told over NOTIFY_SOCKET, without further words. */
  supervised?: {
    /** s6's `notification-fd`: gets a line when all services are ready. */
    notifyFd?: number;
  };
  /** Of the mode 'distributed'. */
  distributed?: {
    /** Where /livez (also /healthz), /startupz and /readyz are asked. Default: nowhere. */
    probes?: string;
    /** How long it is not ready before the first service is stopped, so that nobody is sent to it then. Default 5 s. */
    drain?: Duration;
    /** Signals to the supervisor that each service gets. Default: none. */
    forward?: readonly string[];
  };
}

/** A supervisor within the supervisor: to those around it, it is one service. */
export interface GroupSpec extends GroupOptions {
  dependsOn?: readonly Dependency[];
  /** When it has given up: whether the group around it starts it again. Default 'permanent'. */
  restart?: 'permanent' | 'temporary';
}

/** A service or group by its name: it is waited for until it is ready, or until it has ended well. */
export type Dependency = string | { service: string; until: 'ready' | 'done' };

export interface ServiceSpec {
  /** Program and arguments. Without a slash the program is looked up in PATH; no shell has a say. */
  command: string | readonly string[];
  /** Default: where the supervisor is. */
  cwd?: string;
  env?: Readonly<Record<string, string>>;
  /** The supervisor's own environment as the ground for `env`: all of it, none, or these names. Default true. */
  inheritEnv?: boolean | readonly string[];
  /** By name or number. A user's own groups go with it. */
  user?: string | number;
  group?: string | number;
  /** Octal. */
  umask?: string | number;
  nice?: number;
  /** 'nofile', 'core', 'as', …: one number for both, or soft and hard. 'unlimited' is no limit. */
  rlimits?: Readonly<Record<string, Limit | { soft: Limit; hard?: Limit }>>;
  /** Default 'permanent'. */
  restart?: 'permanent' | 'transient' | 'temporary';
  backoff?: {
    /** Before the second start in a row; doubled from there on. Default 100 ms. */
    min?: Duration;
    /** Default 30 s. */
    max?: Duration;
    /** By how much a delay may be longer or shorter. Default 0.2. */
    jitter?: number;
    /** Of being ready, after which it counts as well again. Default 30 s. */
    resetAfter?: Duration;
  };
  /** Default: its group's. */
  intensity?: IntensityOptions;
  /** Asked first: whether it has come up at all. Only then is it asked whether it is ready. */
  startup?: StartupSpec;
  /** Default: it is ready as soon as its program runs. */
  ready?: ReadinessSpec;
  live?: LivenessSpec;
  /** What must be free before it is started. Default: its process group is empty, its lock is free. */
  gates?: readonly GateSpecification[];
  /** Default 10 s. */
  gateTimeout?: Duration;
  /** `wait` on, `fail` the start, or `proceed` with a warning. Default 'fail'. */
  onGateTimeout?: 'wait' | 'fail' | 'proceed';
  /** Default: TERM, 10 s, KILL. After each signal a stopped process is woken, and the whole group is waited for. */
  stop?: readonly StopSpec[];
  /** What exit codes mean, whatever `restart` is. */
  exitCodes?: Readonly<Record<string, 'retry' | 'never' | 'done'>>;
  dependsOn?: readonly Dependency[];
  /** Default: its group's. */
  mode?: Mode;
  /** Independent: how long it lives on without a supervisor. Default 1 min; 0: for ever. */
  lease?: Duration;
  /** Default: its group's. */
  require?: Guarantee;
  /**
   * Sockets that the supervisor binds, keeps, and hands over as systemd does (LISTEN_FDS), so that a restart has no gap:
   * 'tcp://127.0.0.1:3000', 'unix:///run/app.sock'. As an object: by the names that LISTEN_FDNAMES gives.
   */
  listen?: string | readonly string[] | Readonly<Record<string, string>>;
  /** `log` (default): the supervisor's, by lines. `inherit`: its own stdout. A file is appended to, across all restarts. */
  stdout?: OutputSpec;
  stderr?: OutputSpec;
  /**
   * What it may say to the log in a second, stdout and stderr together; after a silence as much again at once. Beyond that
   * its output waits in its pipe, and when that is full the service does, which is told. Default: 20000 lines and 8 MiB.
   * 0: as much as it likes.
   */
  logLimit?: { lines?: number; bytes?: number };
  /** A session of its own (setsid) instead of a process group in ours. Default false. */
  session?: boolean;
}

export type Limit = number | 'unlimited';
export type OutputSpec = 'log' | 'inherit' | 'ignore' | { file: string };
export interface StopSpec {
  /** 'TERM', 'SIGTERM' or a number. */
  signal: string | number;
  /** Until nothing of it is left, before the next step. Default 10 s. */
  wait?: Duration;
}

/** One question to a service. */
export type ProbeSpec =
  /** A port on this machine; or 'host:port'. Whoever accepts is well. */
  | { tcp: number | string }
  /** A unix socket. Whoever accepts is well. */
  | { unix: string }
  /** A URL, or with `unix` a path that is asked for over that socket. Default: every status of 200 to 399 is well. */
  | { http: string | { url: string; status?: number | readonly number[]; unix?: string } }
  /** A program; ending with 0 is well. */
  | { exec: string | readonly string[] }
  /** It says so itself, as to systemd: READY=1, WATCHDOG=1 to its NOTIFY_SOCKET. */
  | { notify: true };

/** It has begun when a line of its stdout or stderr has that in it; a pattern from a module or program only. */
export interface LogSpec {
  log: string | RegExp;
}

export type StartupSpec = (ProbeSpec | LogSpec) & {
  /** Altogether. Default 60 s. */
  within?: Duration;
  /** Of one question. Default 1 s. */
  timeout?: Duration;
};

/**
 * After its start a service is asked on: not ready, it is said to be so, and goes on running. With `notify` it says so
 * itself (RELOADING=1, STOPPING=1); with `log` it has said so once and for all.
 */
export type ReadinessSpec = (ProbeSpec | LogSpec) & {
  /** Until it is ready for the first time. Default 30 s. */
  within?: Duration;
  /** Of one question. Default 1 s. */
  timeout?: Duration;
  /** Between questions once it is ready. Default 10 s; 0: it is not asked any more. */
  every?: Duration;
  /** Bad answers in a row after which it is not ready. Default 3. */
  failures?: number;
  /** Good ones in a row after which it is again. Default 1. */
  successes?: number;
};

export type LivenessSpec = ProbeSpec & {
  /** Default 10 s. */
  every?: Duration;
  /** Default 1 s. */
  timeout?: Duration;
  /** Bad answers in a row that are its end. Default 3. */
  failures?: number;
};

export type GateSpecification = (
  | { port: number; host?: string | readonly string[] }
  | { group: 'empty' }
  | { lock: 'free' }
  /** Nobody listens at this path. */
  | { unix: string }
  | { path: string; is?: 'absent' | 'present' }
  | { exec: string | readonly string[] }
  /** Only from a program. True is open; what throws, hangs or is false is closed. */
  | { name: string; check: () => boolean | Promise<boolean> }
) & { within?: Duration; onTimeout?: 'wait' | 'fail' | 'proceed' };

// --------------------------------------------------------------------------------------------- what it tells

/**
 * `down`: not wanted. `starting` until each service that is to run is ready or given up, `running` from then on, also when
 * some are given up; `stopping`; `failed`: the outermost group has given up, what it had is stopped.
 */
export type GroupState = 'down' | 'starting' | 'running' | 'restarting' | 'stopping' | 'failed';

/** A service as the supervisor has it: what its starter knows, and what the configuration says. */
export interface SupervisedStatus extends ServiceStatus {
  readonly kind: 'service';
  readonly mode: Mode;
  readonly command: readonly string[];
  readonly dependsOn: readonly string[];
  /** ms since it became ready; null when it is not. */
  readonly uptime: number | null;
  readonly counters: ServiceCounters;
}

/** Since the supervisor was made. */
export interface ServiceCounters {
  readonly starts: number;
  readonly adoptions: number;
  /** Starts that nobody asked for, by what was the matter. */
  readonly restarts: Readonly<Partial<Record<Cause, number>>>;
  readonly exits: number;
  /** Stops that needed SIGKILL. */
  readonly forcedKills: number;
  readonly orphans: number;
  /** Times that it said more than it may. */
  readonly floods: number;
  readonly gateWaits: number;
  /** ms, all waits together. */
  readonly gateWaited: number;
}

export interface GroupStatus {
  readonly kind: 'group';
  /** '' is the outermost. */
  readonly name: string;
  readonly state: GroupState;
  readonly strategy: Strategy;
  readonly problem: string | null;
  readonly restarts: number;
  /** In the order of their starts. */
  readonly members: readonly (SupervisedStatus | GroupStatus)[];
}

export interface SupervisorStatus {
  readonly pid: number;
  readonly stateDir: string;
  /** ms since `start`; null before. */
  readonly uptime: number | null;
  readonly state: GroupState;
  readonly tree: GroupStatus;
  /** The same by name, groups left out. */
  readonly services: Readonly<Record<string, SupervisedStatus>>;
}

export interface ShutdownReport {
  /** ms */
  readonly took: number;
  /** In the order in which they ended. */
  readonly services: Readonly<Record<string, StopReport>>;
  /** Pids that nothing ended, by service. There should be none. */
  readonly survivors: Readonly<Record<string, readonly number[]>>;
  /** Services that run on: independent ones that were let go of, and those of another supervisor. */
  readonly left: readonly string[];
}

/** What another configuration meant for the services, by name. */
export interface Reconfigured {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** Stopped, and started again as they are now. A service whose group, or one around that, is another has changed. */
  readonly changed: readonly string[];
  /** Were not touched. */
  readonly unchanged: readonly string[];
}

/** What concerns several services. `group`: '' is the outermost. */
export type TreeEvent =
  | {
      readonly event: 'group-state';
      readonly group: string;
      readonly from: GroupState;
      readonly to: GroupState;
    }
  /** The strategy takes others with it: they are stopped, and started again after `delay` ms. */
  | {
      readonly event: 'group-restart';
      readonly group: string;
      /** The service, or the group within, that ended. */
      readonly because: string;
      readonly members: readonly string[];
      readonly delay: number;
    }
  /** Its members are stopped. `final`: nobody starts it again; of the outermost: the supervisor has given up. */
  | {
      readonly event: 'group-failed';
      readonly group: string;
      readonly because: string;
      readonly cause: Cause;
      readonly message: string;
      readonly final: boolean;
    }
  /** Another configuration is followed from now on. */
  | ({ readonly event: 'reconfigured' } & Reconfigured)
  /** We are PID 1: an orphan of somebody else's has ended, and was ours to reap. */
  | { readonly event: 'reaped'; readonly exit: ExitStatus }
  /** A look for what earlier runs left behind. Normal is none. */
  | {
      readonly event: 'swept';
      readonly when: 'start' | 'shutdown';
      readonly orphans: number;
      /** Why not all could be looked at: there may be more. */
      readonly unseen?: string;
    };

export type SupervisorEvent = ServiceEvent | TreeEvent;

/** A line of a service's output. */
export interface LogLine {
  readonly service: string;
  readonly stream: 'stdout' | 'stderr';
  /** Epoch ms. */
  readonly at: number;
  readonly text: string;
}

/** What an event of that name holds. */
export type EventOf<Kind extends SupervisorEvent['event'], Event = SupervisorEvent> = Event extends {
  event: unknown;
}
  ? Kind extends Event['event']
    ? Event
    : never
  : never;

/** `event`: everything that happens, and each kind under its own name; `log`: what services with output 'log' say. */
export type SupervisorEvents = {
  [Kind in SupervisorEvent['event']]: [EventOf<Kind>];
} & { event: [SupervisorEvent]; log: [LogLine] };

export interface StopOptions {
  /** Independent services are stopped with the others (default), or let go of, to be adopted by the next supervisor. */
  independent?: 'stop' | 'leave';
  /** SIGKILL to all of them at once, those included that are being stopped already. Default false. */
  quick?: boolean;
}

/** What `new Supervisor(options)` has. */
export interface SupervisorFace extends EventEmitter<SupervisorEvents>, AsyncDisposable {
  /**
   * Starts what is not running. Fulfilled when each service is ready or given up, which the status tells apart; never
   * rejected for a service's sake. Asked for twice it is done once.
   */
  start(): Promise<SupervisorStatus>;
  /** Stops all, in reverse order, each after those that depend on it. */
  stop(options?: StopOptions): Promise<ShutdownReport>;
  /** Starts it with what it depends on. Fulfilled when it is ready; forgets what went wrong before. */
  startService(name: string): Promise<SupervisedStatus>;
  /** Stops this one alone; the strategy is about ends that nobody asked for. */
  stopService(name: string): Promise<StopReport>;
  restartService(name: string): Promise<SupervisedStatus>;
  /**
   * Follows other options from now on: new services are started, those that are not there any more are stopped, those
   * that have changed are restarted (not those that were stopped by hand), and no other is touched. Fulfilled when each
   * that was started is ready or given up. One after the other when asked for several times.
   *
   * Rejected, with nothing touched, for options that cannot be (`ERR_FORKBEARD_INVALID_OPTION`,
   * `ERR_FORKBEARD_UNKNOWN_OPTION`), among them another `stateDir`, `supervised` or `distributed`; with
   * `ERR_FORKBEARD_STOPPED` when the supervisor is being stopped; and with `ERR_FORKBEARD_STUCK` when something that was
   * to go cannot be ended: then all is as before.
   */
  reconfigure(options: SupervisorOptions): Promise<Reconfigured>;
  /** To its first process. */
  signal(name: string, signal: string | number): Promise<void>;
  status(): SupervisorStatus;
  /** The last lines that it has said, oldest first. At most 1000 are kept for each. */
  logs(name: string): readonly LogLine[];
}
