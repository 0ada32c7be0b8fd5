/**
 * A service's starter: one for each, so that what befalls one service never waits for another. Everything that is done to
 * the service goes through one queue, one thing at a time; what is asked for twice is done once. Ends are heard as they
 * happen, and what follows is decided by restart.ts, waited for by gates.ts and carried out by a run.
 *
 * Made by the supervisor, which adds what concerns several services. An error in here ends at this service.
 */
import { randomUUID } from 'node:crypto';
import type { Loop } from '../process/loop.ts';
import { stateError } from '../sys/errors.ts';
import { Attempt, ending, isLocked, refusal, withoutUs } from './attempt.ts';
import { Checkup } from './checkup.ts';
import { type Clock, clockOf } from './clock.ts';
import { Elsewhere } from './elsewhere.ts';
import { gateOf, holdersOf, passGates } from './gates.ts';
import { sleep, unlessAborted } from './health.ts';
import { bootId } from './identity.ts';
import { HeldSockets } from './listen.ts';
import { Notices } from './notices.ts';
import { Operations } from './operations.ts';
import { pidsOfRun } from './orphans.ts';
import { ask } from './probes.ts';
import { RestartPolicy } from './restart.ts';
import { Run, type RunEnd } from './run.ts';
import type { Cause, ServiceEvent, ServiceOptions, ServiceStatus, StopReport } from './service-options.ts';
import type { ShimOptions } from './shim.ts';
import { lockHolders, type StateDirectory, type Traces } from './state.ts';
import { mayFollow, type ServiceState } from './states.ts';

export interface ServiceAround {
  readonly loop: Loop;
  readonly state: StateDirectory;
  readonly clock?: Clock;
  readonly onEvent: (event: ServiceEvent) => void;
  readonly onOutput?: (stream: 'stdout' | 'stderr', data: Buffer) => void;
}

export class Service {
  readonly name: string;
  readonly #options: ServiceOptions;
  readonly #around: ServiceAround;
  readonly #clock: Clock;
  readonly #traces: Traces;
  readonly #policy: RestartPolicy;
  readonly #held: HeldSockets;
  readonly #operations = new Operations(() => this.#lookAfter());
  #state: ServiceState = 'down';
  #since: number;
  #run: Run | null = null;
  #notices: Notices | null = null;
  #checkup: Checkup | null = null;
  /** Why it is not ready although it runs. */
  #unready: string | null = null;
  #other: Elsewhere | null = null;
  #runIds: string[] = [];
  /** The last run's id, when its shim was killed: nobody has seen the last of it go. */
  #lost: string | null = null;
  #restarts = 0;
  #problem: string | null = null;
  #lastExit: ServiceStatus['lastExit'] = null;
  #hurry = new AbortController();

  constructor(options: ServiceOptions, around: ServiceAround) {
    this.name = options.name;
    this.#options = options;
    this.#around = around;
    this.#clock = around.clock ?? clockOf(around.loop);
    this.#traces = around.state.of(options.name);
    this.#policy = new RestartPolicy(options.restart, this.#clock);
    this.#held = new HeldSockets(options.listen ?? [], options.name);
    for (const argument of ['startup', 'ready', 'live'] as const) {
      const asked = options[argument];
      if (asked && 'probe' in asked) this.#held.checkProbe(asked.probe, argument);
    }
    this.#since = this.#clock.now();
  }

  get state(): ServiceState {
    return this.#state;
  }

  /**
   * Fulfilled when it is ready; at once when it is. Rejected when it is given up, or stopped before. Forgets what went
   * wrong before, and does not wait for a backoff to pass. Where another supervisor runs it already, that one's is it.
   */
  start(): Promise<ServiceStatus> {
    const { last } = this.#operations;
    if (last?.kind === 'recover') {
      this.#policy.reset();
      this.#hurry.abort();
      return last.promise as Promise<ServiceStatus>;
    }
    return this.#operations.add('start', async (signal) => {
      if (!THERE.includes(this.#state)) await this.#startAnew(signal);
      return this.status();
    });
  }

  /** A stop and a start, as one. */
  restart(): Promise<ServiceStatus> {
    return this.#operations.add('restart', async (signal) => {
      await this.#startAnew(signal);
      return this.status();
    });
  }

  /** Fulfilled when nothing of it is left, or when no step could end it: then `survivors` says who. */
  stop(): Promise<StopReport> {
    this.#operations.interrupt(stateError('STOPPED', `Service ${this.name} was stopped`), 'stop');
    return this.#operations.add('stop', async () => {
      const report = await this.#bringDown();
      if (report.survivors.length === 0 && this.#state !== 'down') this.#enter('down');
      this.#problem = null;
      this.#tell({ event: 'stopped', ...report });
      return report;
    });
  }

  /** To its first process. Rejected with ESRCH when that has ended. */
  async signal(signal: string | number): Promise<void> {
    if (this.#run === null) throw stateError('NOT_RUNNING', `Service ${this.name} does not run`);
    await this.#run.shim.signal(signal);
  }

  status(): ServiceStatus {
    const info = this.#run?.info ?? null;
    const other = this.#other?.record;
    return {
      name: this.name,
      state: this.#state,
      ready: THERE.includes(this.#state) && this.#unready === null,
      pid: other?.pid ?? (this.#run?.exit === null ? (info?.pid ?? null) : null),
      runId: other?.runId ?? this.#run?.id ?? null,
      owned: other === undefined,
      guarantee: info === null ? null : info.adopts ? 'tree' : 'group',
      since: this.#clock.now() - this.#since,
      restarts: this.#restarts,
      failures: this.#policy.failures,
      problem: this.#problem ?? this.#unready,
      text: this.#notices?.text ?? null,
      lastExit: this.#lastExit,
    };
  }

  // ---------------------------------------------------------------------------------------------- going up

  async #startAnew(signal: AbortSignal): Promise<void> {
    this.#policy.reset();
    const { survivors } = await this.#bringDown();
    if (survivors.length > 0) {
      throw stateError('STUCK', `Service ${this.name} cannot be ended: ${survivors.join(', ')}`);
    }
    signal.throwIfAborted();
    await this.#rise(signal);
  }

  /** Until it is ready. Throws when it is given up. */
  async #rise(signal: AbortSignal): Promise<void> {
    for (;;) {
      try {
        await this.#attempt(signal);
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof Attempt)) throw error;
        await this.#follow(error, signal);
      }
    }
  }

  /** After an end that nobody wanted: until the next start is due. Throws when there shall be none. */
  async #follow(attempt: Attempt, signal: AbortSignal): Promise<void> {
    const { reason, message, exit } = attempt;
    const cause = attempt.cause instanceof Error ? attempt.cause : null;
    if (attempt.final) this.#giveUp(reason, message, cause);
    const decision = this.#policy.ended(exit);
    if (decision.action === 'fail') {
      this.#giveUp(decision.reason, `${decision.message} (the last time: ${message})`, cause);
    }
    this.#problem = message;
    if (decision.action === 'done') {
      this.#enter('done');
      throw stateError('ENDED', `Service ${this.name} has ended: ${message}`);
    }
    const { delay, failures } = decision;
    this.#restarts++;
    this.#enter('backoff');
    this.#tell({ event: 'backoff', cause: reason, delay, failures, message });
    if (delay === 0) return;
    this.#hurry = new AbortController();
    await sleep(this.#clock, delay, AbortSignal.any([signal, this.#hurry.signal])).catch(() => {
      signal.throwIfAborted();
    });
  }

  #giveUp(cause: Cause, message: string, error: Error | null): never {
    this.#problem = message;
    this.#enter('failed');
    this.#tell({ event: 'failed', cause, message, error });
    throw stateError(
      'FAILED',
      `Service ${this.name} is given up: ${message}`,
      error === null ? {} : { cause: error },
    );
  }

  /** Whether it runs already, as another supervisor's. Then it is that one's to start again, until it lets go of it. */
  #join(): boolean {
    const { verdict, record } = this.#around.state.find(this.name);
    if (verdict !== 'running' || record === null) return false;
    const { pid, runId } = record;
    const other = Elsewhere.watch(this.#around.loop, record, () => {
      if (this.#other !== other) return;
      this.#other = null;
      this.#tell({ event: 'released', pid, runId });
      this.#recover(async () => null);
    });
    if (other === null) return false;
    this.#other = other;
    this.#enter('elsewhere');
    this.#tell({ event: 'elsewhere', pid, runId });
    return true;
  }

  /** One start, up to being ready. Whatever it throws, but for the signal's reason, nothing of it is left then. */
  async #attempt(signal: AbortSignal): Promise<void> {
    this.#enter('gated');
    if (this.#join()) return;
    await this.#passGates(signal);
    this.#enter('starting');
    const began = this.#clock.now();
    const run = this.#launch();
    try {
      const { pid, adopts } = await unlessAborted(run.started, signal);
      this.#around.state.tidy(this.name, run.id);
      this.#tell({ event: 'started', pid, runId: run.id, guarantee: adopts ? 'tree' : 'group' });
    } catch (error) {
      signal.throwIfAborted();
      await unlessAborted(run.over, signal);
      this.#forget();
      if (isLocked(error) && (await this.#waitForOther(signal))) return;
      throw refusal(error);
    }
    const problem = await this.#untilReady(run, signal);
    if (run.exit !== null || run.isOver) {
      const { exit, how } = await this.#settle(run, signal);
      throw new Attempt(how === 'lost' ? 'shim-lost' : 'exit', `${ending(exit)} before it was ready`, {
        exit,
      });
    }
    if (problem !== null) {
      await this.#end(signal);
      throw new Attempt('not-ready', problem);
    }
    this.#policy.ready();
    this.#problem = null;
    this.#enter('running');
    this.#tell({ event: 'ready', pid: run.info?.pid as number, ms: this.#clock.now() - began });
    this.#watch(run);
  }

  /** Whoever has the lock is about to write down what runs. False when that did not come to pass in time. */
  async #waitForOther(signal: AbortSignal): Promise<boolean> {
    const limit = this.#clock.now() + this.#options.gateTimeout;
    while (!this.#join()) {
      if (this.#clock.now() >= limit) return false;
      if (lockHolders(this.#traces.lock)?.length === 0) {
        // It came to nothing: our turn.
        await this.#attempt(signal);
        return true;
      }
      await sleep(this.#clock, WRITING, signal);
    }
    return true;
  }

  async #passGates(signal: AbortSignal): Promise<void> {
    const { gates, listen, gateTimeout, onGateTimeout } = this.#options;
    const around = {
      held: this.#held,
      lock: this.#traces.lock,
      runIds: () => this.#runIds,
      left: () => (this.#lost === null ? [] : pidsOfRun(this.#lost)),
      ask: (command: readonly [string, ...string[]]) => {
        const { env, settings } = this.#options;
        const { loop } = this.#around;
        return ask({ exec: command }, { loop, timeout: gateTimeout, env, cwd: settings?.cwd });
      },
    };
    try {
      const own = listen?.length
        ? [this.#held.gate((port) => holdersOf(port, this.#runIds), onGateTimeout)]
        : [];
      const report = await passGates({
        gates: [...own, ...gates.map((spec) => gateOf(spec, around))],
        within: gateTimeout,
        onTimeout: onGateTimeout,
        clock: this.#clock,
        signal,
        onBlocked: (blocked) => {
          this.#problem = `gate "${blocked.gate}": ${blocked.reason}`;
          this.#tell({ event: 'gate-blocked', ...blocked });
        },
      });
      if (report.blocked.length > 0) this.#tell({ event: 'gates-passed', ...report });
      this.#problem = null;
    } catch (error) {
      signal.throwIfAborted();
      throw new Attempt('gate', (error as Error).message, { cause: error });
    }
  }

  /** The program, with its shim. */
  #launch(): Run {
    const { name, command, stop, live, stdio, settings, group } = this.#options;
    const runId = randomUUID();
    // The last few: whoever is still on his way out belongs to one of them.
    this.#runIds = [...this.#runIds, runId].slice(-8);
    try {
      const notices = new Notices(this.#around.loop, {
        path: this.#around.state.notifyPath(name, runId),
        shim: () => this.#run?.shim.process?.pid ?? null,
        clock: this.#clock,
        uid: settings?.uid,
      });
      this.#notices = notices;
      const watchdog: Record<string, string> =
        live !== null && 'notify' in live ? { WATCHDOG_USEC: String(live.every * 1000) } : {};
      const own = { FORKBEARD_RUN_ID: runId, FORKBEARD_SERVICE: name, NOTIFY_SOCKET: notices.path };
      const options: ShimOptions = {
        command,
        env: { ...withoutOurs(this.#options.env), ...watchdog, ...own },
        sockets: this.#held.descriptors,
        socketNames: this.#held.names,
        lock: this.#traces.lock,
        record: { path: this.#traces.record, head: { service: name, runId, bootId: bootId(), command } },
        orphaned: withoutUs(stop),
        ...(stdio === undefined ? {} : { stdio }),
        ...(settings === undefined ? {} : { settings }),
        ...(group === undefined ? {} : { group }),
      };
      const run = new Run(this.#around.loop, runId, options, {
        output: (stream, data) => this.#around.onOutput?.(stream, data),
        ended: (exit, left) => {
          this.#lastExit = exit;
          this.#tell({ event: 'exit', exit, left, asked: this.#state === 'stopping' });
          this.#lookAfter();
        },
        stuck: (survivors) => {
          if (mayFollow(this.#state, 'stuck')) this.#enter('stuck');
          this.#tell({ event: 'stuck', survivors });
        },
        over: ({ how, orphans }) => {
          this.#lost = how === 'lost' ? runId : null;
          if (orphans.length > 0) this.#tell({ event: 'orphans', orphans });
          this.#lookAfter();
        },
      });
      this.#run = run;
      return run;
    } catch (error) {
      this.#forget();
      throw refusal(error);
    }
  }

  /** Null when it is; else what is wrong. Over at once when it ends. */
  async #untilReady(run: Run, signal: AbortSignal): Promise<string | null> {
    const ended = new AbortController();
    void run.ended.then(() => ended.abort(new Error('it has ended')));
    const interest = AbortSignal.any([signal, ended.signal]);
    try {
      return await this.#asking(run).untilReady(interest);
    } catch (error) {
      signal.throwIfAborted();
      return (error as Error).message;
    }
  }

  #asking(run: Run): Checkup {
    this.#checkup ??= new Checkup(this.#options, {
      loop: this.#around.loop,
      clock: this.#clock,
      notices: this.#notices as Notices,
      pid: () => run.info?.pid as number,
    });
    return this.#checkup;
  }

  // ------------------------------------------------------------------------------------------ being there

  #watch(run: Run): void {
    this.#asking(run).watch({
      health: (problem) => {
        this.#problem = problem;
        const state = problem === null ? 'running' : 'unhealthy';
        if (mayFollow(this.#state, state)) this.#enter(state);
        this.#tell({ event: 'health', problem });
      },
      readiness: (problem) => {
        this.#unready = problem;
        this.#tell({ event: 'readiness', problem });
      },
      unwell: (problem) => {
        if (this.#operations.last !== null || this.#run !== run) return;
        this.#recover(async (signal) => {
          await this.#end(signal);
          return new Attempt('unhealthy', problem);
        });
      },
    });
  }

  /** Looks whether something has ended that nobody is busy with. */
  #lookAfter(): void {
    const run = this.#run;
    if (run === null || this.#operations.last !== null) return;
    if (this.#state === 'stuck') {
      if (!run.isOver) return;
      this.#forget();
      this.#enter('down');
    } else if (run.exit !== null || run.isOver) {
      this.#recover(async (signal) => {
        const { exit, how } = await this.#settle(run, signal);
        return new Attempt(how === 'lost' ? 'shim-lost' : 'exit', ending(exit), { exit });
      });
    }
  }

  /** `clear` makes room, and says what there is to be told of it. */
  #recover(clear: (signal: AbortSignal) => Promise<Attempt | null>): void {
    const recovery = this.#operations.add('recover', async (signal) => {
      const attempt = await clear(signal);
      if (attempt !== null) await this.#follow(attempt, signal);
      await this.#rise(signal);
      return this.status();
    });
    // What came of it is told by events, and to who joins.
    recovery.catch(() => {});
  }

  // -------------------------------------------------------------------------------------------- going down

  /** After the end of the first process: ends the rest. */
  async #settle(run: Run, signal: AbortSignal): Promise<RunEnd> {
    this.#checkup?.stop();
    if (!run.isOver && run.left.length > 0) {
      this.#enter('settling');
      void run.stop(this.#options.stop);
    }
    const end = await unlessAborted(run.over, signal);
    this.#forget();
    return end;
  }

  /** What is another supervisor's is let go of, and goes on. */
  async #bringDown(): Promise<StopReport> {
    this.#other?.stop();
    this.#other = null;
    const run = this.#run;
    if (run === null) return { exit: null, steps: [], survivors: [] };
    this.#checkup?.stop();
    if (!run.isOver) {
      if (this.#state !== 'stopping') this.#enter('stopping');
      await run.stop(this.#options.stop);
    }
    const { exit, steps } = run;
    if (!run.isOver) return { exit, steps, survivors: run.left };
    this.#forget();
    return { exit, steps, survivors: [] };
  }

  /** A stop that nobody asked for. What cannot be ended now is waited for: there are never two. */
  async #end(signal: AbortSignal): Promise<void> {
    await this.#bringDown();
    if (this.#run === null) return;
    await unlessAborted(this.#run.over, signal);
    this.#forget();
  }

  /** Nothing of the run is left. */
  #forget(): void {
    this.#checkup?.stop();
    this.#checkup = null;
    this.#unready = null;
    this.#notices?.close();
    this.#notices = null;
    this.#run = null;
  }

  #enter(to: ServiceState): void {
    const from = this.#state;
    if (!mayFollow(from, to)) throw new Error(`Service ${this.name} cannot go from ${from} to ${to}`);
    this.#state = to;
    if (LETS_GO.includes(to)) this.#held.close();
    this.#since = this.#clock.now();
    this.#tell({ event: 'state', from, to });
  }

  #tell(event: EventOf<ServiceEvent>): void {
    try {
      this.#around.onEvent({ service: this.name, ...event } as ServiceEvent);
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

/** What whoever runs us has told us alone. */
function withoutOurs(env: ServiceOptions['env']): Record<string, string> {
  const { LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES, WATCHDOG_USEC, WATCHDOG_PID, ...theirs } = env;
  return theirs;
}

/** How soon to look again for what the owner of a lock writes down, ms. */
const WRITING = 5;

/** Each event without the service's name. */
type EventOf<E> = E extends unknown ? Omit<E, 'service'> : never;
