/**
 * What there is of a service now: its state, its run and all that is made for one run, and what is remembered of earlier
 * ones. The starter's parts share it (service.ts, ascent.ts, descent.ts); it decides nothing, and tells what changes.
 */
import type { ExitStatus } from '../process/contract.ts';
import type { Loop } from '../process/loop.ts';
import { type Checkup, HALTED } from './checkup.ts';
import { type Clock, clockOf } from './clock.ts';
import type { Elsewhere } from './elsewhere.ts';
import type { Identity } from './identity.ts';
import { HeldSockets } from './listen.ts';
import type { Notices } from './notices.ts';
import type { Run, RunEnd } from './run.ts';
import type { Said } from './said.ts';
import type { Cause, Guarantee, ServiceEvent, ServiceOptions, ServiceStatus } from './service-options.ts';
import type { Started } from './shim.ts';
import type { StateDirectory, Traces } from './state.ts';
import { mayFollow, type ServiceState } from './states.ts';

export interface ServiceAround {
  readonly loop: Loop;
  readonly state: StateDirectory;
  readonly clock?: Clock;
  readonly onEvent: (event: ServiceEvent) => void;
  readonly onOutput?: (stream: 'stdout' | 'stderr', data: Buffer) => void;
  /** Nothing is being done to it any more. */
  readonly onIdle?: () => void;
  /** Before a start, not before an adoption: until what it needs is there. Rejected with an Attempt when it never will be. */
  readonly needs?: (say: (problem: string) => void, signal: AbortSignal) => Promise<void>;
  /** It is to be started again: fulfilled when it is its turn. Default: after the delay. */
  readonly turn?: (due: Due, signal: AbortSignal) => Promise<void>;
}

export interface Due {
  readonly cause: Cause;
  /** ms */
  readonly delay: number;
  /** Somebody does not want to wait for that. */
  readonly hurry: AbortSignal;
  /** It could not be started for a shortage that is not its own. */
  readonly isShortage?: boolean;
}

/** Each event without the service's name. */
type EventOf<E> = E extends unknown ? Omit<E, 'service'> : never;

export class Life {
  readonly name: string;
  readonly options: ServiceOptions;
  readonly around: ServiceAround;
  readonly clock: Clock;
  readonly traces: Traces;
  readonly held: HeldSockets;
  state: ServiceState = 'down';
  since: number;
  run: Run | null = null;
  notices: Notices | null = null;
  said: Said | null = null;
  beats: Disposable | null = null;
  /** The next look whether the traces of the run are at their paths. */
  looks: Disposable | null = null;
  /** Which file the last run's lock was. */
  lastLock: string | null = null;
  /** Its traces are not at their paths, and could not be made anew: that was told. */
  lacksTraces = false;
  checkup: Checkup | null = null;
  /** What its readiness answers, or what it says of it: null is well. */
  unready: string | null = null;
  other: Elsewhere | null = null;
  /** The last few: whoever is still on his way out belongs to one of them. */
  runIds: readonly string[] = [];
  /** The last run, when its shim was killed: nobody has seen the last of it go. */
  lost: { readonly runId: string; readonly first: Identity | null } | null = null;
  problem: string | null = null;
  lastExit: ExitStatus | null = null;
  /** It is down for a moment: whoever stopped it starts it again, and its clients wait that long. */
  isPaused = false;
  /** Nobody waits for its end to be graceful. */
  isHurried = false;

  constructor(options: ServiceOptions, around: ServiceAround) {
    this.name = options.name;
    this.options = options;
    this.around = around;
    this.clock = around.clock ?? clockOf(around.loop);
    this.traces = around.state.of(options.name);
    this.held = new HeldSockets(options.listen ?? [], options.name);
    for (const argument of ['startup', 'ready', 'live'] as const) {
      const asked = options[argument];
      if (asked && 'probe' in asked) this.held.checkProbe(asked.probe, argument);
    }
    this.since = this.clock.now();
  }

  get isIndependent(): boolean {
    return (this.options.independent ?? null) !== null;
  }

  get isThere(): boolean {
    return THERE.includes(this.state);
  }

  /** Why nobody should be sent to it although it runs. */
  get hindrance(): string | null {
    return this.run?.isHalted ? HALTED : this.unready;
  }

  status(): Omit<ServiceStatus, 'restarts' | 'failures'> {
    const { name, state, run, other, lastExit } = this;
    const info = run?.info ?? null;
    const record = other?.record;
    return {
      name,
      state,
      ready: this.isThere && this.hindrance === null,
      pid: record?.pid ?? (run?.exit === null ? (info?.pid ?? null) : null),
      runId: record?.runId ?? run?.id ?? null,
      owned: record === undefined,
      guarantee: info === null ? null : guaranteeOf(info),
      since: this.clock.now() - this.since,
      problem: this.problem ?? this.hindrance,
      text: this.notices?.text ?? null,
      lastExit,
    };
  }

  begin(runId: string): void {
    this.runIds = [...this.runIds, runId].slice(-8);
  }

  /** Nothing of the run is left, or it is none of ours. */
  forget(): void {
    this.checkup?.stop();
    this.checkup = null;
    this.unready = null;
    this.beats?.[Symbol.dispose]();
    this.beats = null;
    this.looks?.[Symbol.dispose]();
    this.looks = null;
    this.lacksTraces = false;
    this.notices?.close();
    this.notices = null;
    this.said = null;
    this.run = null;
  }

  enter(to: ServiceState): void {
    const from = this.state;
    if (!mayFollow(from, to)) throw new Error(`Service ${this.name} cannot go from ${from} to ${to}`);
    this.state = to;
    if (LETS_GO.includes(to)) this.letGo();
    this.since = this.clock.now();
    this.tell({ event: 'state', from, to });
  }

  /** Of its sockets, where nobody is to wait in them. */
  letGo(): void {
    if (LETS_GO.includes(this.state) && !(this.state === 'down' && this.isPaused)) this.held.close();
  }

  tell(event: EventOf<ServiceEvent>): void {
    try {
      this.around.onEvent({ service: this.name, ...event } as ServiceEvent);
    } catch (error) {
      // Whoever listens and fails is told so, and not in the middle of what we do.
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}

const THERE: readonly ServiceState[] = ['running', 'unhealthy', 'elsewhere'];

/** Whose clients are told so, and do not wait. */
const LETS_GO: readonly ServiceState[] = ['down', 'done', 'failed', 'elsewhere'];

export function guaranteeOf({ adopts }: Started): Guarantee {
  return adopts ? 'tree' : 'group';
}

export function lossOf(how: RunEnd['how']): Cause {
  return how === 'lost' ? 'shim-lost' : how === 'lease' ? 'lease' : 'exit';
}
