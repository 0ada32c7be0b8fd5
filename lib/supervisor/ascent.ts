/**
 * How a service comes to be ready: looks whether it runs already, waits for what it needs and for what is in its way,
 * starts it with its shim, or adopts what is there, and waits until it may be used. One attempt; whether there is another
 * is the starter's decision.
 */
import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { findRunning } from './adoption.ts';
import { Attempt, ending, refusal, shortage } from './attempt.ts';
import { Checkup, HALTED } from './checkup.ts';
import { bringToAnEnd, settle } from './descent.ts';
import { Elsewhere } from './elsewhere.ts';
import { type Gate, gateOf, holdersOf, passGates } from './gates.ts';
import { NotAsked, sleep, unlessAborted } from './health.ts';
import { factsOf } from './identity.ts';
import { shimOptions } from './launch.ts';
import { guaranteeOf, type Life, lossOf } from './life.ts';
import { Notices } from './notices.ts';
import { endRun, type Orphan, pidsOfRun } from './orphans.ts';
import { ask } from './probes.ts';
import { Run, type RunEnd, type RunEvents } from './run.ts';
import { Said } from './said.ts';
import type { Started } from './shim.ts';
import { lockFile, lockHolders, type ServiceRecord } from './state.ts';
import { mayFollow } from './states.ts';

export interface AscentAround {
  /** It is ready; nobody has been told yet. */
  readonly ready: () => void;
  /** That was told. */
  readonly running: (run: Run) => void;
  /** Its first process was stopped, or goes on. */
  readonly halted: () => void;
  /** Something of it has ended. */
  readonly ended: () => void;
  /** Another supervisor has let go of it. */
  readonly released: () => void;
}

/** How soon to look again for what the owner of a lock writes down, ms. */
const WRITING = 5;
/** How often to look whether a service's lock is where others look for it, ms. */
export const LOOK = 3000;

export class Ascent {
  readonly #life: Life;
  readonly #after: AscentAround;
  /** Those of which was told last. */
  #orphans: readonly Orphan[] = [];

  constructor(life: Life, after: AscentAround) {
    this.#life = life;
    this.#after = after;
  }

  /** One start, up to being ready. Whatever it throws, but for the signal's reason, nothing of it is left then. */
  async attempt(signal: AbortSignal): Promise<void> {
    const limit = this.#life.clock.now() + this.#life.options.gateTimeout;
    for (;;) {
      this.#life.enter('gated');
      try {
        await this.#try(signal);
        return;
      } catch (error) {
        const isLate = this.#life.clock.now() >= limit;
        if (!(error instanceof Attempt) || error.reason !== 'locked' || isLate) throw error;
      }
      // Whoever has the lock is about to write down what runs.
      await sleep(this.#life.clock, WRITING, signal);
    }
  }

  async #try(signal: AbortSignal): Promise<void> {
    let run = await this.#find(signal);
    if (run === null) {
      this.#endLost();
      await this.#life.around.needs?.((problem) => {
        this.#life.problem = problem;
      }, signal);
      await this.#passGates(signal);
      // It may have been started elsewhere while we waited.
      run = await this.#find(signal);
    }
    if (run === 'elsewhere') return;
    const began = this.#life.clock.now();
    await this.#bringUp(run ?? (await this.#begin(signal)), began, signal);
  }

  /** Up to being ready. */
  async #bringUp(run: Run, began: number, signal: AbortSignal): Promise<void> {
    const { pid, ready } = run.info as Started;
    this.#beat(run);
    this.#watchTraces(run);
    // It says so once, and has.
    if (ready) {
      this.#life.notices?.assumeReady();
      this.#life.said?.assumeAll();
    }
    const { require = null } = this.#life.options;
    const guarantee = guaranteeOf(run.info as Started);
    if (require === 'tree' && guarantee !== 'tree') {
      await bringToAnEnd(this.#life, signal);
      throw new Attempt('guarantee', `It reaches "${guarantee}", and "${require}" is required`, {
        final: true,
      });
    }
    // Its end is on its way to us, and it is not ready now, whatever it was.
    if (factsOf(pid) === 'gone') await unlessAborted(run.ended, signal);
    const problem = ready ? await this.#lookAtReadiness(run, signal) : await this.#untilReady(run, signal);
    if (run.exit !== null || run.isOver) {
      const { exit, how } = await settle(this.#life, signal);
      // Where nobody asks, it is a matter of luck whether it was seen running.
      const { startup = null, ready } = this.#life.options;
      const when = startup === null && ready === null ? '' : ' before it was ready';
      throw new Attempt(lossOf(how), `${ending(exit)}${when}`, { exit });
    }
    if (problem !== null) {
      await bringToAnEnd(this.#life, signal);
      throw new Attempt('not-ready', problem);
    }
    this.#after.ready();
    this.#life.problem = null;
    run.shim.ready();
    this.#life.enter('running');
    this.#life.tell({ event: 'ready', pid, ms: this.#life.clock.now() - began });
    this.#after.running(run);
  }

  /** What of it runs already: as another's, or as ours from now on. */
  async #find(signal: AbortSignal): Promise<Run | 'elsewhere' | null> {
    const { loop, state, clock } = this.#life.around;
    const { lastLock } = this.#life;
    const search = { loop, state, clock, events: this.#hearing(), signal, lastLock };
    const found = await findRunning(this.#life.name, search);
    switch (found.kind) {
      case 'nothing':
        return null;
      case 'orphaned':
        this.#life.lost = { runId: found.record.runId, first: found.record };
        this.#tellOf(found.orphans);
        return null;
      case 'elsewhere':
        return this.#join(found.record, found.supervisor, found.isUntraced) ? 'elsewhere' : null;
      case 'adopted':
        return this.#adopt(found.run, found.record, signal);
    }
  }

  /** What was left of a run whose shim was killed, and could not be seen, or not be ended, when that happened. */
  #endLost(): void {
    const { lost } = this.#life;
    if (lost === null) return;
    const orphans = endRun(lost.runId, lost.first).filter(({ spared }) => spared === null);
    if (orphans.length > 0) this.#life.tell({ event: 'orphans', orphans });
  }

  /** Then it is that one's to start again, until it lets go of it. */
  #join(record: ServiceRecord, supervisor: number | null, isUntraced = false): boolean {
    const { pid, runId } = record;
    const other = Elsewhere.watch(this.#life.around.loop, record, supervisor, () => {
      if (this.#life.other !== other) return;
      this.#life.other = null;
      this.#life.tell({ event: 'released', pid, runId });
      this.#after.released();
    });
    if (other === null) return false;
    this.#life.other = other;
    this.#life.enter('elsewhere');
    this.#life.tell({ event: 'elsewhere', pid, runId, ...(isUntraced && { isUntraced }) });
    return true;
  }

  async #adopt(run: Run, record: ServiceRecord | null, signal: AbortSignal): Promise<Run | null> {
    const { pid } = run.info as Started;
    this.#life.run = run;
    this.#life.begin(run.id);
    this.#life.enter('starting');
    this.#life.held.take(run.shim.takeSockets());
    const stale = this.#staleness(record, pid);
    if (stale !== null) {
      this.#life.tell({ event: 'stale', pid, runId: run.id, reason: stale });
      run.tellOn();
      await bringToAnEnd(this.#life, signal);
      this.#life.enter('gated');
      return null;
    }
    this.#life.around.state.tidy(this.#life.name, run.id, true);
    this.#life.tell({ event: 'adopted', pid, runId: run.id, guarantee: guaranteeOf(run.info as Started) });
    this.#listen(run.id);
    run.tellOn();
    return run;
  }

  #staleness(record: ServiceRecord | null, pid: number): string | null {
    if (!this.#life.isIndependent) return 'it is independent, and shall not be any more';
    if (record === null) return null;
    if (record.pid !== pid) return 'its record is of another process';
    const isSame = JSON.stringify(record.command) === JSON.stringify(this.#life.options.command);
    return isSame ? null : 'its command is another one';
  }

  /** A new one. */
  async #begin(signal: AbortSignal): Promise<Run> {
    this.#life.enter('starting');
    const run = this.#launch();
    try {
      await unlessAborted(run.started, signal);
    } catch (error) {
      signal.throwIfAborted();
      this.#count(run, await unlessAborted(run.over, signal));
      this.#life.forget();
      throw refusal(error);
    }
    this.#life.around.state.tidy(this.#life.name, run.id, this.#life.isIndependent);
    return run;
  }

  async #passGates(signal: AbortSignal): Promise<void> {
    const { gates, listen, gateTimeout, onGateTimeout } = this.#life.options;
    const around = {
      held: this.#life.held,
      lock: this.#life.traces.lock,
      isRunning: () => this.#life.around.state.find(this.#life.name).verdict === 'running',
      runIds: () => this.#life.runIds,
      left: () => {
        const { lost } = this.#life;
        return lost === null ? [] : pidsOfRun(lost.runId, lost.first);
      },
      ask: async (command: readonly [string, ...string[]], signal: AbortSignal) => {
        const { env, settings } = this.#life.options;
        const { loop } = this.#life.around;
        const around = { loop, timeout: gateTimeout, env, cwd: settings?.cwd, signal };
        const answer = await ask({ exec: command }, around);
        if (answer instanceof NotAsked) throw shortage(answer.reason);
        return answer;
      },
    };
    try {
      const mine = this.#life.held.gate((port) => holdersOf(port, this.#life.runIds), onGateTimeout);
      const look: Gate['look'] = (signal) => (around.isRunning() ? null : mine.look(signal));
      const own = listen?.length ? [{ ...mine, look }] : [];
      const report = await passGates({
        gates: [...own, ...gates.map((spec) => gateOf(spec, around))],
        within: gateTimeout,
        onTimeout: onGateTimeout,
        clock: this.#life.clock,
        signal,
        onBlocked: (blocked) => {
          this.#life.problem = `gate "${blocked.gate}": ${blocked.reason}`;
          this.#life.tell({ event: 'gate-blocked', ...blocked });
        },
      });
      if (report.blocked.length > 0) this.#life.tell({ event: 'gates-passed', ...report });
      this.#life.problem = null;
    } catch (error) {
      signal.throwIfAborted();
      throw new Attempt('gate', (error as Error).message, { cause: error });
    }
  }

  /** The program, with its shim. */
  #launch(): Run {
    const runId = randomUUID();
    this.#life.begin(runId);
    try {
      const { loop, state } = this.#life.around;
      state.make();
      const notifyPath = this.#listen(runId);
      const options = shimOptions(this.#life.options, {
        runId,
        state,
        notifyPath,
        held: this.#life.held,
      });
      const run = Run.start(loop, runId, options, this.#hearing());
      this.#life.run = run;
      return run;
    } catch (error) {
      this.#life.forget();
      throw refusal(error);
    }
  }

  #hearing(): RunEvents {
    return {
      started: (info, runId) => {
        this.#life.tell({ event: 'started', pid: info.pid, runId, guarantee: guaranteeOf(info) });
      },
      output: (stream, data) => {
        this.#life.said?.take(stream, data);
        this.#life.around.onOutput?.(stream, data);
      },
      ended: (exit, left) => {
        this.#life.lastExit = exit;
        this.#life.tell({ event: 'exit', exit, left, asked: this.#life.state === 'stopping' });
        this.#after.ended();
      },
      halted: () => this.#after.halted(),
      unseen: () => {
        const error = this.#life.run?.unseen ?? null;
        const reason = error === null ? null : ((error as NodeJS.ErrnoException).code ?? error.message);
        this.#life.tell({ event: 'unknown', what: 'left', reason });
      },
      flood: (held) => this.#life.tell({ event: 'flood', held }),
      restored: (error) => this.#restored(error),
      stuck: (survivors) => {
        if (mayFollow(this.#life.state, 'stuck')) this.#life.enter('stuck');
        this.#life.tell({ event: 'stuck', survivors });
      },
      over: (end) => {
        this.#count(this.#life.run, end);
        this.#after.ended();
      },
    };
  }

  /** Whose shim was killed has perhaps left something behind. */
  #count(run: Run | null, { how, orphans }: RunEnd): void {
    this.#life.lost = how === 'lost' && run !== null ? { runId: run.id, first: run.first } : null;
    this.#tellOf(orphans);
  }

  /** Once of each: who was ended may still be on his way out when we look again. */
  #tellOf(orphans: readonly Orphan[]): void {
    const news = orphans.filter((one) => !this.#orphans.some((told) => isSame(told, one)));
    if (orphans.length > 0) this.#orphans = orphans;
    if (news.length > 0) this.#life.tell({ event: 'orphans', orphans: news });
  }

  /** To what it says of itself. Returns where. */
  #listen(runId: string): string {
    const path = this.#life.around.state.notifyPath(this.#life.name, runId);
    // A supervisor before us listened there, if it is one that we have adopted.
    rmSync(path, { force: true });
    const { startup = null, ready } = this.#life.options;
    const words = [startup, ready].flatMap((asked) => (asked !== null && 'log' in asked ? [asked.log] : []));
    this.#life.said = new Said(words, this.#life.clock);
    this.#life.notices = new Notices(this.#life.around.loop, {
      path,
      shim: () => this.#life.run?.info?.shim ?? this.#life.run?.shim.process?.pid ?? null,
      clock: this.#life.clock,
      onExtension: (ms) => this.#life.run?.shim.extend(ms),
      uid: this.#life.options.settings?.uid,
    });
    return path;
  }

  /** So that it is not taken for lost while we are there. */
  #beat(run: Run): void {
    const lease = this.#life.options.independent?.lease ?? 0;
    run.shim.beat();
    if (lease === 0) return;
    this.#life.beats = this.#life.clock.after(Math.max(1, lease / 4), () => this.#beat(run));
  }

  /** Another starter finds a run by its traces: who clears the state directory away makes it invisible. */
  #watchTraces(run: Run): void {
    this.#life.lastLock = run.lock;
    if (run.lock === null) return;
    this.#life.looks = this.#life.clock.after(LOOK, () => {
      const { around, traces, lacksTraces } = this.#life;
      try {
        if (lacksTraces || lockFile(traces.lock) !== run.lock) {
          around.state.make();
          run.shim.restore();
        }
      } catch (error) {
        this.#tellOfTraces((error as Error).message);
      }
      this.#watchTraces(run);
    });
  }

  #restored(error: Error | null): void {
    const { lock } = this.#life.traces;
    if (error === null) {
      const now = this.#life.run?.lock ?? null;
      if (now === this.#life.lastLock && !this.#life.lacksTraces) return;
      this.#life.lastLock = now;
      this.#life.lacksTraces = false;
      this.#life.tell({ event: 'traces-lost', path: lock, problem: null });
      return;
    }
    const isTaken = (error as NodeJS.ErrnoException).code === 'EAGAIN';
    this.#tellOfTraces(isTaken ? `held by ${lockHolders(lock)?.join(', ') || 'another'}` : error.message);
  }

  /** Tried again and again, and told once. */
  #tellOfTraces(problem: string): void {
    if (this.#life.lacksTraces) return;
    this.#life.lacksTraces = true;
    this.#life.tell({ event: 'traces-lost', path: this.#life.traces.lock, problem });
  }

  /** Of one that has been ready: what is wrong is known from now on, and keeps nobody from having it. */
  async #lookAtReadiness(run: Run, signal: AbortSignal): Promise<null> {
    await unlessAborted(
      Promise.race([
        run.ended,
        this.asking(run)
          .isReady()
          .then((problem) => {
            // One that is stopped is not ready for that alone, for as long as it is.
            if (run.exit === null && !run.isOver && problem !== HALTED) this.#life.unready = problem;
          }),
      ]),
      signal,
    );
    return null;
  }

  /** Null when it is; else what is wrong. Over at once when it ends. */
  async #untilReady(run: Run, signal: AbortSignal): Promise<string | null> {
    const ended = new AbortController();
    void run.ended.then(() => ended.abort(new Error('it has ended')));
    const interest = AbortSignal.any([signal, ended.signal]);
    try {
      return await this.asking(run).untilReady(interest);
    } catch (error) {
      signal.throwIfAborted();
      return (error as Error).message;
    }
  }

  asking(run: Run): Checkup {
    this.#life.checkup ??= new Checkup(this.#life.options, {
      loop: this.#life.around.loop,
      clock: this.#life.clock,
      notices: this.#life.notices as Notices,
      said: this.#life.said as Said,
      isHalted: () => run.isHalted,
      unknown: (what, reason) => {
        if (this.#life.run === run) this.#life.tell({ event: 'unknown', what, reason });
      },
    });
    return this.#life.checkup;
  }
}

function isSame(one: Orphan, other: Orphan): boolean {
  return one.pid === other.pid && one.startTime === other.startTime;
}
