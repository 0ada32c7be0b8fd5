/**
 * A service's starter: one for each, so that what befalls one service never waits for another. Everything that is done to
 * the service goes through one queue, one thing at a time; what is asked for twice is done once. Ends are heard as they
 * happen, and what follows is decided by restart.ts, waited for by gates.ts and carried out by a run.
 *
 * Made by the supervisor, which adds what concerns several services. An error in here ends at this service.
 */
import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import type { Loop } from '../process/loop.ts';
import { stateError } from '../sys/errors.ts';
import { findRunning } from './adoption.ts';
import { Attempt, ending, refusal } from './attempt.ts';
import { Checkup } from './checkup.ts';
import { type Clock, clockOf } from './clock.ts';
import { Elsewhere } from './elsewhere.ts';
import { gateOf, holdersOf, passGates } from './gates.ts';
import { sleep, unlessAborted } from './health.ts';
import { factsOf } from './identity.ts';
import { shimOptions } from './launch.ts';
import { HeldSockets } from './listen.ts';
import { Notices } from './notices.ts';
import { Operations } from './operations.ts';
import { pidsOfRun } from './orphans.ts';
import { ask } from './probes.ts';
import { RestartPolicy } from './restart.ts';
import { Run, type RunEnd, type RunEvents } from './run.ts';
import type {
  Cause,
  Guarantee,
  ServiceEvent,
  ServiceOptions,
  ServiceStatus,
  StopReport,
} from './service-options.ts';
import type { Started } from './shim.ts';
import type { ServiceRecord, StateDirectory, Traces } from './state.ts';
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
}

const AT_ONCE = [{ signal: 'KILL', wait: 10_000 }];

export class Service {
  readonly name: string;
  readonly #options: ServiceOptions;
  readonly #around: ServiceAround;
  readonly #clock: Clock;
  readonly #traces: Traces;
  readonly #policy: RestartPolicy;
  readonly #held: HeldSockets;
  readonly #operations = new Operations(() => {
    this.#lookAfter();
    if (!this.busy) this.#around.onIdle?.();
  });
  #state: ServiceState = 'down';
  #since: number;
  #run: Run | null = null;
  #notices: Notices | null = null;
  #beats: Disposable | null = null;
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
  /** Nobody waits for its end to be graceful. */
  #isHurried = false;

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

  /** Something is being done to it, or it is being brought back. */
  get busy(): boolean {
    return this.#operations.last !== null;
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
    if (last?.kind === 'recover' || (last?.kind === 'start' && this.#state === 'backoff')) {
      this.#policy.reset();
      this.#hurry.abort();
      return last.promise as Promise<ServiceStatus>;
    }
    return this.#operations.add('start', async (signal) => {
      if (!THERE.includes(this.#state)) {
        this.#policy.reset();
        await this.#startAnew(signal);
      }
      return this.status();
    });
  }

  /** A start that nobody asked for: what went wrong before still counts. */
  revive(): Promise<ServiceStatus> {
    return this.#operations.add('start', async (signal) => {
      if (!THERE.includes(this.#state)) await this.#startAnew(signal);
      return this.status();
    });
  }

  /** A stop and a start, as one. */
  restart(): Promise<ServiceStatus> {
    return this.#operations.add('restart', async (signal) => {
      this.#policy.reset();
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

  /** A stop without patience, or in the place of one that is under way: SIGKILL to everything of it. */
  stopAtOnce(): Promise<StopReport> {
    this.#isHurried = true;
    const stopped = this.stop();
    if (this.#run !== null && !this.#run.isOver) void this.#run.stop(AT_ONCE);
    return stopped;
  }

  /** Lets go of it, if it is independent and there is something of it: it runs on, for the next supervisor. Else stops it. */
  async leave(): Promise<StopReport | null> {
    if (!this.#isIndependent) return this.stop();
    this.#operations.interrupt(stateError('STOPPED', `Service ${this.name} was let go of`), 'leave');
    const isLeft = await this.#operations.add('leave', async () => {
      const run = this.#run;
      if (run === null || !(await run.started.then(...BOTH)) || run.isOver) return false;
      this.#held.letGo();
      const { record } = this.#around.state.find(this.name);
      if (record !== null && mayFollow(this.#state, 'elsewhere')) {
        this.#other = Elsewhere.watch(this.#around.loop, record, null, () => {})?.unref() ?? null;
        this.#enter('elsewhere');
      }
      this.#forget();
      run.shim.disconnect();
      return true;
    });
    return isLeft ? null : this.stop();
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
      guarantee: info === null ? null : guaranteeOf(info),
      since: this.#clock.now() - this.#since,
      restarts: this.#restarts,
      failures: this.#policy.failures,
      problem: this.#problem ?? this.#unready,
      text: this.#notices?.text ?? null,
      lastExit: this.#lastExit,
    };
  }

  // ---------------------------------------------------------------------------------------------- going up

  get #isIndependent(): boolean {
    return (this.#options.independent ?? null) !== null;
  }

  async #startAnew(signal: AbortSignal): Promise<void> {
    this.#isHurried = false;
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
        await this.#follow(error instanceof Attempt ? error : await this.#fault(error), signal);
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
    this.#hurry = new AbortController();
    const hurry = this.#hurry.signal;
    const { turn } = this.#around;
    if (turn !== undefined) {
      await turn({ cause: reason, delay, hurry }, signal).catch((error) => {
        signal.throwIfAborted();
        this.#giveUp(error instanceof Attempt ? error.reason : 'internal', (error as Error).message, null);
      });
    } else if (delay > 0) {
      await sleep(this.#clock, delay, AbortSignal.any([signal, hurry])).catch(() => {
        signal.throwIfAborted();
      });
    }
  }

  /** A mistake of ours ends this service, and nothing else. */
  async #fault(error: unknown): Promise<Attempt> {
    await this.#bringDown().catch(() => {});
    const message = error instanceof Error ? error.message : String(error);
    return new Attempt('internal', message, { final: true, cause: error });
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

  /** One start, up to being ready. Whatever it throws, but for the signal's reason, nothing of it is left then. */
  async #attempt(signal: AbortSignal): Promise<void> {
    const limit = this.#clock.now() + this.#options.gateTimeout;
    for (;;) {
      this.#enter('gated');
      try {
        await this.#try(signal);
        return;
      } catch (error) {
        const isLate = this.#clock.now() >= limit;
        if (!(error instanceof Attempt) || error.reason !== 'locked' || isLate) throw error;
      }
      // Whoever has the lock is about to write down what runs.
      await sleep(this.#clock, WRITING, signal);
    }
  }

  async #try(signal: AbortSignal): Promise<void> {
    let run = await this.#find(signal);
    if (run === null) {
      await this.#around.needs?.((problem) => {
        this.#problem = problem;
      }, signal);
      await this.#passGates(signal);
      // It may have been started elsewhere while we waited.
      run = await this.#find(signal);
    }
    if (run === 'elsewhere') return;
    const began = this.#clock.now();
    await this.#bringUp(run ?? (await this.#begin(signal)), began, signal);
  }

  /** Up to being ready. */
  async #bringUp(run: Run, began: number, signal: AbortSignal): Promise<void> {
    const { pid, ready } = run.info as Started;
    this.#beat(run);
    // It says so once, and has.
    if (ready) this.#notices?.assumeReady();
    const { require = null } = this.#options;
    const guarantee = guaranteeOf(run.info as Started);
    if (require === 'tree' && guarantee !== 'tree') {
      await this.#end(signal);
      throw new Attempt('guarantee', `It reaches "${guarantee}", and "${require}" is required`, {
        final: true,
      });
    }
    // Its end is on its way to us, and it is not ready now, whatever it was.
    if (factsOf(pid) === 'gone') await unlessAborted(run.ended, signal);
    const problem = await this.#untilReady(run, signal);
    if (run.exit !== null || run.isOver) {
      const { exit, how } = await this.#settle(run, signal);
      throw new Attempt(lossOf(how), `${ending(exit)} before it was ready`, { exit });
    }
    if (problem !== null) {
      await this.#end(signal);
      throw new Attempt('not-ready', problem);
    }
    this.#policy.ready();
    this.#problem = null;
    run.shim.ready();
    this.#enter('running');
    this.#tell({ event: 'ready', pid, ms: this.#clock.now() - began });
    this.#watch(run);
  }

  /** What of it runs already: as another's, or as ours from now on. */
  async #find(signal: AbortSignal): Promise<Run | 'elsewhere' | null> {
    const { loop, state, clock } = this.#around;
    const found = await findRunning(this.name, { loop, state, clock, events: this.#hearing(), signal });
    switch (found.kind) {
      case 'nothing':
        return null;
      case 'orphaned':
        this.#lost = found.record.runId;
        if (found.orphans.length > 0) this.#tell({ event: 'orphans', orphans: found.orphans });
        return null;
      case 'elsewhere':
        return this.#join(found.record, found.supervisor) ? 'elsewhere' : null;
      case 'adopted':
        return this.#adopt(found.run, found.record, signal);
    }
  }

  /** Then it is that one's to start again, until it lets go of it. */
  #join(record: ServiceRecord, supervisor: number | null): boolean {
    const { pid, runId } = record;
    const other = Elsewhere.watch(this.#around.loop, record, supervisor, () => {
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

  async #adopt(run: Run, record: ServiceRecord | null, signal: AbortSignal): Promise<Run | null> {
    const { pid } = run.info as Started;
    this.#run = run;
    this.#runIds = [...this.#runIds, run.id].slice(-8);
    this.#enter('starting');
    const stale = this.#staleness(record, pid);
    if (stale !== null) {
      this.#tell({ event: 'stale', pid, runId: run.id, reason: stale });
      await this.#end(signal);
      this.#enter('gated');
      return null;
    }
    this.#around.state.tidy(this.name, run.id, true);
    this.#tell({ event: 'adopted', pid, runId: run.id, guarantee: guaranteeOf(run.info as Started) });
    this.#listen(run.id);
    return run;
  }

  #staleness(record: ServiceRecord | null, pid: number): string | null {
    if (!this.#isIndependent) return 'it is independent, and shall not be any more';
    if (record === null) return null;
    if (record.pid !== pid) return 'its record is of another process';
    const isSame = JSON.stringify(record.command) === JSON.stringify(this.#options.command);
    return isSame ? null : 'its command is another one';
  }

  /** A new one. */
  async #begin(signal: AbortSignal): Promise<Run> {
    this.#enter('starting');
    const run = this.#launch();
    try {
      const started = await unlessAborted(run.started, signal);
      this.#around.state.tidy(this.name, run.id, this.#isIndependent);
      this.#tell({
        event: 'started',
        pid: started.pid,
        runId: run.id,
        guarantee: guaranteeOf(started),
      });
      return run;
    } catch (error) {
      signal.throwIfAborted();
      await unlessAborted(run.over, signal);
      this.#forget();
      throw refusal(error);
    }
  }

  async #passGates(signal: AbortSignal): Promise<void> {
    const { gates, listen, gateTimeout, onGateTimeout } = this.#options;
    const around = {
      held: this.#held,
      lock: this.#traces.lock,
      isRunning: () => this.#around.state.find(this.name).verdict === 'running',
      runIds: () => this.#runIds,
      left: () => (this.#lost === null ? [] : pidsOfRun(this.#lost)),
      ask: (command: readonly [string, ...string[]]) => {
        const { env, settings } = this.#options;
        const { loop } = this.#around;
        return ask({ exec: command }, { loop, timeout: gateTimeout, env, cwd: settings?.cwd });
      },
    };
    try {
      const mine = this.#held.gate((port) => holdersOf(port, this.#runIds), onGateTimeout);
      const own = listen?.length ? [{ ...mine, look: () => (around.isRunning() ? null : mine.look()) }] : [];
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
    const runId = randomUUID();
    // The last few: whoever is still on his way out belongs to one of them.
    this.#runIds = [...this.#runIds, runId].slice(-8);
    try {
      const { loop, state } = this.#around;
      const notifyPath = this.#listen(runId);
      const options = shimOptions(this.#options, {
        runId,
        state,
        notifyPath,
        held: this.#held,
      });
      const run = Run.start(loop, runId, options, this.#hearing());
      this.#run = run;
      return run;
    } catch (error) {
      this.#forget();
      throw refusal(error);
    }
  }

  #hearing(): RunEvents {
    return {
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
        this.#lost = how === 'lost' ? (this.#run?.id ?? null) : null;
        if (orphans.length > 0) this.#tell({ event: 'orphans', orphans });
        this.#lookAfter();
      },
    };
  }

  /** To what it says of itself. Returns where. */
  #listen(runId: string): string {
    const path = this.#around.state.notifyPath(this.name, runId);
    // A supervisor before us listened there, if it is one that we have adopted.
    rmSync(path, { force: true });
    this.#notices = new Notices(this.#around.loop, {
      path,
      shim: () => this.#run?.info?.shim ?? this.#run?.shim.process?.pid ?? null,
      clock: this.#clock,
      uid: this.#options.settings?.uid,
    });
    return path;
  }

  /** So that it is not taken for lost while we are there. */
  #beat(run: Run): void {
    const lease = this.#options.independent?.lease ?? 0;
    run.shim.beat();
    if (lease === 0) return;
    this.#beats = this.#clock.after(Math.max(1, lease / 4), () => this.#beat(run));
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
        return new Attempt(lossOf(how), ending(exit), { exit });
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
      await run.stop(this.#isHurried ? AT_ONCE : this.#options.stop);
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
    this.#beats?.[Symbol.dispose]();
    this.#beats = null;
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

const BOTH = [() => true, () => false] as const;

function guaranteeOf({ adopts }: Started): Guarantee {
  return adopts ? 'tree' : 'group';
}

function lossOf(how: RunEnd['how']): Cause {
  return how === 'lost' ? 'shim-lost' : how === 'lease' ? 'lease' : 'exit';
}

/** How soon to look again for what the owner of a lock writes down, ms. */
const WRITING = 5;

/** Each event without the service's name. */
type EventOf<E> = E extends unknown ? Omit<E, 'service'> : never;
