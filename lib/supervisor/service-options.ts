/** What a service's starter is told, checked and complete: defaults are the configuration's. Types only, and its events. */
import type { ExitStatus } from '../process/contract.ts';
import type { Blocked, GatePolicy, GateSpec } from './gates.ts';
import type { LiveSettings, ReadySettings, StartSettings } from './health.ts';
import type { Orphan } from './orphans.ts';
import type { NamedListen } from './plan.ts';
import type { Probe } from './probes.ts';
import type { RestartOptions } from './restart.ts';
import type { StopTaken } from './run.ts';
import type { Word } from './said.ts';
import type { ShimOptions, StopStep } from './shim.ts';
import type { ServiceState } from './states.ts';

/** `notify`: it says so itself, as services tell systemd (READY=1, WATCHDOG=1). */
export type Asked = { readonly probe: Probe } | { readonly notify: true };
/** `log`: it has said that in a line of its output. Once: it cannot be asked again. */
export type AskedOnce = Asked | { readonly log: Word };

export interface ServiceOptions {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  /** The whole environment; the starter adds what tells this service and run from others. */
  readonly env: Readonly<Record<string, string>>;
  readonly stdio?: ShimOptions['stdio'];
  /** Bound before its first start, kept until it is stopped or given up, and handed over with LISTEN_FDS. */
  readonly listen?: readonly NamedListen[];
  /** Of what it says to us, in a second. */
  readonly output?: ShimOptions['output'];
  readonly settings?: ShimOptions['settings'];
  readonly group?: 'new' | 'session';
  readonly restart: RestartOptions;
  /** Before anything else is asked: whether it has begun. Default: that is not asked. */
  readonly startup?: (AskedOnce & StartSettings) | null;
  /**
   * Null: it is ready as soon as its program runs (and has begun). What is asked again later, or says `RELOADING=1` or
   * `STOPPING=1`, may be not ready for a while, which is told, and ends nothing.
   */
  readonly ready: (AskedOnce & ReadySettings) | null;
  /** Whoever fails it is started again. */
  readonly live: (Asked & LiveSettings) | null;
  readonly gates: readonly GateSpec[];
  readonly gateTimeout: number;
  readonly onGateTimeout: GatePolicy;
  readonly stop: readonly StopStep[];
  /** It lives on without us, for so many ms (0: for ever), and is adopted by who comes next. */
  readonly independent?: { readonly lease: number } | null;
  /** Less is an error. */
  readonly require?: Guarantee | null;
}

/** How a stop went. */
export interface StopReport {
  readonly exit: ExitStatus | null;
  readonly steps: readonly StopTaken[];
  /** Pids that the last step did not end. */
  readonly survivors: readonly number[];
  /** Nothing was stopped: it runs on, in this process, as another supervisor's. */
  readonly elsewhere?: number;
}

/** `tree`: nothing of the service can get away. `group`: what leaves its process group can. */
export type Guarantee = 'tree' | 'group';

export interface ServiceStatus {
  readonly name: string;
  readonly state: ServiceState;
  /** May be used: it runs, and its last answers to the question were good. */
  readonly ready: boolean;
  readonly pid: number | null;
  readonly runId: string | null;
  /** False when another supervisor has it. */
  readonly owned: boolean;
  readonly guarantee: Guarantee | null;
  /** ms in this state. */
  readonly since: number;
  /** Starts that nobody asked for. */
  readonly restarts: number;
  /** In a row. */
  readonly failures: number;
  /** What is wrong with it, or in its way. */
  readonly problem: string | null;
  /** What it says of itself (STATUS=). */
  readonly text: string | null;
  readonly lastExit: ExitStatus | null;
}

/** Why a service is started again, or not any more. */
export type Cause =
  | 'exit'
  | 'not-ready'
  | 'unhealthy'
  | 'gate'
  | 'refused'
  | 'shim-lost'
  | 'intensity'
  | 'exit-code'
  | 'locked'
  /** Nobody renewed its lease: we were kept from it. */
  | 'lease'
  /** What it depends on has failed, or its group has. */
  | 'dependency'
  | 'guarantee'
  /** A mistake of ours. */
  | 'internal';

/** What of a service may be impossible to see. */
export type Unknown = 'left' | 'startup' | 'ready' | 'live';

export type ServiceEvent = { readonly service: string } & (
  | { readonly event: 'state'; readonly from: ServiceState; readonly to: ServiceState }
  | ({ readonly event: 'gate-blocked' } & Blocked)
  | {
      readonly event: 'gates-passed';
      readonly waited: number;
      readonly blocked: readonly Blocked[];
      readonly passed: readonly string[];
    }
  | { readonly event: 'started'; readonly pid: number; readonly runId: string; readonly guarantee: Guarantee }
  /** It ran already, without a supervisor, and is ours now: the same process. */
  | {
      readonly event: 'adopted';
      readonly pid: number;
      readonly runId: string;
      readonly guarantee: Guarantee;
    }
  /** What was found of it is not what is wanted, and is ended. */
  | { readonly event: 'stale'; readonly pid: number; readonly runId: string; readonly reason: string }
  | { readonly event: 'ready'; readonly pid: number; readonly ms: number }
  /** It runs already, as another supervisor's, and is left alone; `released` when that one has let go of it. */
  | {
      readonly event: 'elsewhere';
      readonly pid: number;
      readonly runId: string;
      /** Its lock was removed while it ran: it was found by its shim's mark. */
      readonly isUntraced?: boolean;
    }
  | { readonly event: 'released'; readonly pid: number; readonly runId: string }
  | {
      readonly event: 'exit';
      readonly exit: ExitStatus;
      readonly left: readonly number[];
      readonly asked: boolean;
    }
  /** It is not ready any more, and why, although it runs; or, with null, it is again. */
  | { readonly event: 'readiness'; readonly problem: string | null }
  | { readonly event: 'health'; readonly problem: string | null }
  | {
      readonly event: 'backoff';
      readonly cause: Cause;
      readonly delay: number;
      readonly failures: number;
      readonly message: string;
    }
  /** Final: only a start by hand brings it back. */
  | {
      readonly event: 'failed';
      readonly cause: Cause;
      readonly message: string;
      readonly error: Error | null;
    }
  /**
   * We, or the machine, have too little of something (descriptors, memory) to see how it is: whether anything is `left` of
   * its last run, or what it would answer to a question. That says nothing of the service, and nothing follows from it
   * but that it is looked at again. Told once, and with null when it is seen again.
   */
  | { readonly event: 'unknown'; readonly what: Unknown; readonly reason: string | null }
  /**
   * Its lock is not at its path any more: somebody has cleared the state directory away, or put another in its place. Null:
   * lock, record and socket were made anew. Otherwise why they could not be; that is tried again every few seconds.
   */
  | { readonly event: 'traces-lost'; readonly path: string; readonly problem: string | null }
  /** It says more than its `output` allows, and waits. `held`: that is over; ms for which its output was not read. */
  | { readonly event: 'flood'; readonly held: number | null }
  | ({ readonly event: 'stopped' } & StopReport)
  | { readonly event: 'stuck'; readonly survivors: readonly number[] }
  /** There should be none, ever. */
  | { readonly event: 'orphans'; readonly orphans: readonly Orphan[] }
);
