/** Loop: the loop that users see. What the floor below does with descriptors and time, and on top of it processes. */
import type { Watcher } from '../loop/contract.ts';
import { EventLoop } from '../loop/loop.ts';
import { checkFunction } from '../sys/errors.ts';
import { call } from './call.ts';
import type {
  CallOptions,
  ExitStatus,
  ForkContext,
  ForkedProcess,
  ForkOptions,
  ForkSafety,
  RunProcessOptions,
  RunProcessResult,
  SignalInfo,
  SignalName,
  SpawnedProcess,
  SpawnOptions,
} from './contract.ts';
import { Exits } from './exits.ts';
import { Forks } from './fork.ts';
import { forkSafety } from './fork-safety.ts';
import type { ProcessHost } from './host.ts';
import { Programs } from './programs.ts';
import { Signals } from './signals.ts';

/**
 * Errors thrown by callbacks never lose other work: the batch is finished, then the error surfaces, thrown from
 * `runOnce` and `runSync`, as an uncaught exception where Node's loop drives; several become one `AggregateError`.
 * Ticks and microtasks run between handlers in both modes, or between batches with `drain: 'batch'` (not when
 * `runSync` itself is called from within a promise reaction: V8 does not re-enter its queue). Each handler runs in the
 * async context of its registration. Any number of loops may exist, also in Workers; every loop that watches a signal
 * gets it.
 */
export class Loop extends EventLoop {
  static #current: Loop | undefined;
  /** Takes the children of loops that are closed, so that every one of them is reaped and its `exited` is fulfilled. */
  static #heir: Loop | undefined;

  #signals: Signals | undefined;
  #exits: Exits | undefined;
  #programs: Programs | undefined;
  #forks: Forks | undefined;

  /** This thread's one loop, made on first use; `new Loop()` never becomes it. A forked child gets a new one. */
  static current(this: void): Loop {
    if (Loop.#current === undefined || !Loop.#current.alive) Loop.#current = new Loop();
    return Loop.#current;
  }

  /**
   * Any number of watchers per signal. The callback runs from the loop, never inside the handler. Coexists with
   * `process.on(signal)`; the last watcher to go restores the previous disposition. SIGKILL and SIGSTOP throw
   * ERR_FORKBEARD_SIGNAL_UNCATCHABLE, signals that the process needs for itself (SIGSEGV, SIGBUS, SIGFPE, SIGILL,
   * SIGPROF) ERR_FORKBEARD_SIGNAL_RESERVED, unknown names ERR_FORKBEARD_UNKNOWN_SIGNAL.
   */
  watchSignal(signal: SignalName | number, callback: (info: SignalInfo) => void): Watcher {
    checkFunction(callback, 'callback');
    return this.#processes().signals.watch(signal, callback as (info: SignalInfo) => void);
  }

  /**
   * Exit of a child of this process, however it was made, with its status; for other processes: exit without status.
   * Reaps that pid only and never steals the children of `node:child_process`. Throws ESRCH when there is no such
   * process.
   */
  watchProcess(pid: number, callback: (exit: ExitStatus) => void): Watcher {
    return this.#processes().exits.watch(pid, callback);
  }

  /**
   * A real fork(2) at the next point where no JavaScript is on the stack. The promise is fulfilled when the child has
   * said that it lives. Rejected with ERR_FORKBEARD_FORK_UNSAFE (`hazards` has the list), ERR_FORKBEARD_FORK_BUSY, the
   * kernel's own errors (EAGAIN, ENOMEM), ERR_FORKBEARD_FORK_DIED or ERR_FORKBEARD_FORK_HUNG when the child ended, or was
   * ended, before its code could begin, and inside `runSync` with ERR_FORKBEARD_IN_RUN_SYNC: that point cannot come there.
   */
  async fork(options: ForkOptions): Promise<ForkedProcess> {
    return this.#forked().fork(options);
  }

  /** fork(2) right here; `code` must be synchronous, and the child ends when it returns. */
  // biome-ignore lint/suspicious/noConfusingVoidType: code without a return statement is meant.
  forkSync(options: ForkOptions & { code: (context: ForkContext) => number | void }): ForkedProcess {
    return this.#forked().forkSync(options);
  }

  /** Runs a closure in a forked child and hands back its structured-cloned result. */
  async call<T>(
    code: (context: ForkContext) => T | Promise<T>,
    options: CallOptions = {},
  ): Promise<Awaited<T>> {
    return call(this.#forked(), code, options) as Promise<Awaited<T>>;
  }

  /** What stands against a fork right now. */
  forkSafety(): ForkSafety {
    this.usable();
    return forkSafety();
  }

  /**
   * Starts a program. What fails before it runs is thrown here, with the failing step in `step` and nothing left
   * behind.
   */
  spawn(options: SpawnOptions): SpawnedProcess {
    return this.#started().spawn(options);
  }

  /** Runs a program to its end and captures what it says. */
  async runProcess(options: RunProcessOptions): Promise<RunProcessResult> {
    return this.#started().runProcess(options);
  }

  #started(): Programs {
    if (this.#programs === undefined) {
      this.#programs = new Programs(this, this.#processes().exits);
      this.addPhase(this.#programs);
    }
    return this.#programs;
  }

  #forked(): Forks {
    if (this.#forks === undefined) {
      this.usable();
      const { exits } = this.#processes();
      this.#forks = new Forks(this, exits, Loop.current, () => EventLoop.isBlocking());
      this.addPhase(this.#forks);
    }
    this.usable();
    return this.#forks;
  }

  /** Made with the first of them: a loop without signals and processes pays nothing for them. */
  #processes(): { signals: Signals; exits: Exits } {
    if (this.#signals === undefined || this.#exits === undefined) {
      this.usable();
      const host: ProcessHost = {
        ...this.keeper,
        handle: this.handle,
        ready: () => this.ready(),
        watchInternally: (fd, onReady) => this.watchInternally(fd, onReady),
        watchTime: (when, callback) => this.watchTime(when, callback),
      };
      this.#signals = new Signals(host);
      this.#exits = new Exits(host, this.#signals, Loop.#inherit);
      this.addPhase(this.#signals);
      this.addPhase(this.#exits);
    }
    return { signals: this.#signals, exits: this.#exits };
  }

  static #inherit(this: void): Exits {
    if (Loop.#heir === undefined || !Loop.#heir.alive) Loop.#heir = new Loop();
    return Loop.#heir.#processes().exits;
  }
}
