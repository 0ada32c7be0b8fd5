/**
 * A service's starter: one for each, so that what befalls one service never waits for another. Everything that is done to
 * the service goes through one queue, one thing at a time; what is asked for twice is done once. Ends are heard as they
 * happen, and what follows is decided by restart.ts, waited for by gates.ts and carried out by a run.
 *
 * Made by the supervisor, which adds what concerns several services. An error in here ends at this service.
 */
import { stateError } from '../sys/errors.ts';
import { Ascent } from './ascent.ts';
import { Attempt, ending, isShortage } from './attempt.ts';
import { type CheckupEvents, HALTED } from './checkup.ts';
import { AT_ONCE, bringDown, bringToAnEnd, settle } from './descent.ts';
import { Elsewhere } from './elsewhere.ts';
import { sleep } from './health.ts';
import { Life, lossOf, type ServiceAround } from './life.ts';
import { Operations } from './operations.ts';
import { RestartPolicy } from './restart.ts';
import type { Run } from './run.ts';
import type { Cause, ServiceOptions, ServiceStatus, StopReport } from './service-options.ts';
import { mayFollow, type ServiceState } from './states.ts';

export class Service {
  readonly name: string;
  readonly #life: Life;
  readonly #ascent: Ascent;
  readonly #policy: RestartPolicy;
  readonly #operations = new Operations(() => {
    this.#lookAfter();
    if (!this.busy) this.#life.around.onIdle?.();
  });
  #restarts = 0;
  #hurry = new AbortController();

  constructor(options: ServiceOptions, around: ServiceAround) {
    this.name = options.name;
    this.#life = new Life(options, around);
    this.#policy = new RestartPolicy(options.restart, this.#life.clock);
    this.#ascent = new Ascent(this.#life, {
      ready: () => this.#policy.ready(),
      running: (run) => this.#watch(run),
      halted: () => this.#halted(),
      ended: () => this.#lookAfter(),
      released: () => this.#recover(async () => null),
    });
  }

  /** Something is being done to it, or it is being brought back. */
  get busy(): boolean {
    return this.#operations.last !== null;
  }

  get state(): ServiceState {
    return this.#life.state;
  }

  /**
   * Fulfilled when it is ready; at once when it is. Rejected when it is given up, or stopped before. Forgets what went
   * wrong before, and does not wait for a backoff to pass. Where another supervisor runs it already, that one's is it.
   */
  start(): Promise<ServiceStatus> {
    const { last } = this.#operations;
    if (last?.kind === 'recover' || (last?.kind === 'start' && this.#life.state === 'backoff')) {
      this.#policy.reset();
      this.#hurry.abort();
      return last.promise as Promise<ServiceStatus>;
    }
    return this.#operations.add('start', async (signal) => {
      if (!this.#life.isThere) {
        this.#policy.reset();
        await this.#startAnew(signal);
      }
      return this.status();
    });
  }

  /** A start that nobody asked for: what went wrong before still counts. */
  revive(): Promise<ServiceStatus> {
    return this.#operations.add('start', async (signal) => {
      if (!this.#life.isThere) await this.#startAnew(signal);
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
    this.#life.isPaused = false;
    const stopped = this.#end();
    // It may have been paused before.
    void stopped.then(() => this.#life.letGo()).catch(() => {});
    return stopped;
  }

  /** A stop by somebody who starts it again, or stops it for good: until then its sockets stay, and their clients wait. */
  pause(): Promise<StopReport> {
    if (this.#operations.last?.kind !== 'stop') this.#life.isPaused = true;
    return this.#end();
  }

  get isPaused(): boolean {
    return this.#life.isPaused;
  }

  #end(): Promise<StopReport> {
    this.#operations.interrupt(stateError('STOPPED', `Service ${this.name} was stopped`), 'stop');
    return this.#operations.add('stop', async () => {
      const report = await bringDown(this.#life);
      if (report.survivors.length === 0 && this.#life.state !== 'down') this.#life.enter('down');
      this.#life.problem = null;
      this.#life.tell({ event: 'stopped', ...report });
      return report;
    });
  }

  /** A stop without patience, or in the place of one that is under way: SIGKILL to everything of it. */
  stopAtOnce(): Promise<StopReport> {
    this.#life.isHurried = true;
    const stopped = this.stop();
    if (this.#life.run !== null && !this.#life.run.isOver) void this.#life.run.stop(AT_ONCE);
    return stopped;
  }

  /** Lets go of it, if it is independent and there is something of it: it runs on, for the next supervisor. Else stops it. */
  async leave(): Promise<StopReport | null> {
    if (!this.#life.isIndependent) return this.stop();
    this.#operations.interrupt(stateError('STOPPED', `Service ${this.name} was let go of`), 'leave');
    const isLeft = await this.#operations.add('leave', async () => {
      const run = this.#life.run;
      if (run === null || !(await run.started.then(...BOTH)) || run.isOver) return false;
      this.#life.held.letGo();
      const { record } = this.#life.around.state.find(this.name);
      if (record !== null && mayFollow(this.#life.state, 'elsewhere')) {
        this.#life.other = Elsewhere.watch(this.#life.around.loop, record, null, () => {})?.unref() ?? null;
        this.#life.enter('elsewhere');
      }
      this.#life.forget();
      run.shim.disconnect();
      return true;
    });
    return isLeft ? null : this.stop();
  }

  /** To its first process. Rejected with ESRCH when that has ended. */
  async signal(signal: string | number): Promise<void> {
    if (this.#life.run === null) throw stateError('NOT_RUNNING', `Service ${this.name} does not run`);
    await this.#life.run.shim.signal(signal);
  }

  status(): ServiceStatus {
    return { ...this.#life.status(), restarts: this.#restarts, failures: this.#policy.failures };
  }

  // ---------------------------------------------------------------------------------------------- going up

  async #startAnew(signal: AbortSignal): Promise<void> {
    this.#life.isHurried = false;
    this.#life.isPaused = false;
    const { survivors } = await bringDown(this.#life);
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
        await this.#ascent.attempt(signal);
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
    const decision = this.#policy.ended(exit, attempt.isShortage ? 'none' : 'its');
    if (decision.action === 'fail') {
      this.#giveUp(decision.reason, `${decision.message} (the last time: ${message})`, cause);
    }
    this.#life.problem = message;
    if (decision.action === 'done') {
      this.#life.enter('done');
      throw stateError('ENDED', `Service ${this.name} has ended: ${message}`);
    }
    const { delay, failures } = decision;
    this.#restarts++;
    this.#life.enter('backoff');
    this.#life.tell({ event: 'backoff', cause: reason, delay, failures, message });
    this.#hurry = new AbortController();
    const hurry = this.#hurry.signal;
    const { turn } = this.#life.around;
    if (turn !== undefined) {
      await turn({ cause: reason, delay, hurry, isShortage: attempt.isShortage }, signal).catch((error) => {
        signal.throwIfAborted();
        this.#giveUp(error instanceof Attempt ? error.reason : 'internal', (error as Error).message, null);
      });
    } else if (delay > 0) {
      await sleep(this.#life.clock, delay, AbortSignal.any([signal, hurry])).catch(() => {
        signal.throwIfAborted();
      });
    }
  }

  /** A mistake of ours ends this service, and nothing else; a shortage of ours passes. */
  async #fault(error: unknown): Promise<Attempt> {
    await bringDown(this.#life).catch(() => {});
    const message = error instanceof Error ? error.message : String(error);
    if (isShortage(error)) return new Attempt('refused', message, { cause: error });
    return new Attempt('internal', message, { final: true, cause: error });
  }

  #giveUp(cause: Cause, message: string, error: Error | null): never {
    this.#life.problem = message;
    this.#life.enter('failed');
    this.#life.tell({ event: 'failed', cause, message, error });
    throw stateError(
      'FAILED',
      `Service ${this.name} is given up: ${message}`,
      error === null ? {} : { cause: error },
    );
  }

  // ------------------------------------------------------------------------------------------ being there

  #watch(run: Run): void {
    const { unready } = this.#life;
    const events: CheckupEvents = {
      health: (problem) => this.#judged(problem),
      readiness: (problem) => {
        this.#life.unready = problem;
        if (!run.isHalted) this.#life.tell({ event: 'readiness', problem });
      },
      unwell: (problem) => {
        if (this.#operations.last !== null || this.#life.run !== run) return;
        this.#recover(async (signal) => {
          await bringToAnEnd(this.#life, signal);
          return new Attempt('unhealthy', problem);
        });
      },
    };
    this.#ascent.asking(run).watch(events, unready);
    if (unready !== null && !run.isHalted) this.#life.tell({ event: 'readiness', problem: unready });
    // It was so when it was adopted, or became so before it was ready.
    if (run.isHalted && this.#life.run === run) this.#halted();
  }

  /** Whether it is well: another answer than before. */
  #judged(problem: string | null): void {
    this.#life.problem = problem;
    const state = problem === null ? 'running' : 'unhealthy';
    if (mayFollow(this.#life.state, state)) this.#life.enter(state);
    this.#life.tell({ event: 'health', problem });
  }

  /** Its first process was stopped, or goes on. Who has somebody to ask is judged by that one, and not here. */
  #halted(): void {
    const { run, state, options, hindrance } = this.#life;
    if (run === null || (state !== 'running' && state !== 'unhealthy')) return;
    if (options.live === null) this.#judged(run.isHalted ? HALTED : null);
    this.#life.tell({ event: 'readiness', problem: hindrance });
  }

  /** Looks whether something has ended that nobody is busy with. */
  #lookAfter(): void {
    const run = this.#life.run;
    if (run === null || this.#operations.last !== null) return;
    if (this.#life.state === 'stuck') {
      if (!run.isOver) return;
      this.#life.forget();
      this.#life.enter('down');
    } else if (run.exit !== null || run.isOver) {
      this.#recover(async (signal) => {
        const { exit, how } = await settle(this.#life, signal);
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
}

const BOTH = [() => true, () => false] as const;
