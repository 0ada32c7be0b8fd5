/**
 * Forks of one loop: checks what is asked for, waits for the moment, and makes of the child a ForkedProcess in the
 * parent and a program of its own in the child. The native half is `native/fork.cc`; the child's first steps are
 * become-child.ts's. Nothing of this runs in a Worker.
 */
import { AsyncResource } from 'node:async_hooks';
import { fstatSync } from 'node:fs';
import { types } from 'node:util';
import { isMainThread } from 'node:worker_threads';
import type { IoWatcher } from '../loop/contract.ts';
import type { EventLoop, Phase } from '../loop/loop.ts';
import { EBUSY } from '../sys/errno.ts';
import {
  checkBoolean,
  checkFd,
  checkFunction,
  checkKeys,
  checkObject,
  invalidType,
  invalidValue,
  mainThreadOnly,
  outOfRange,
  stateError,
  systemError,
} from '../sys/errors.ts';
import { close, read } from '../sys/index.ts';
import { becomeChild, rehearse } from './become-child.ts';
import { ChildHandle } from './child.ts';
import type { ExitStatus, ForkContext, ForkedProcess, ForkOptions } from './contract.ts';
import type { Exits } from './exits.ts';
import { enforce, poolRests } from './fork-safety.ts';
import type { Loop } from './loop.ts';
import {
  BUT_FOR_IMMEDIATES,
  FLAG_CLOSE_HANDLES,
  FLAG_DETACHED,
  FLAG_KEEP_SIGNALS,
  FLAG_LISTED,
  NEVER,
  NOT_YET,
  nativeFork,
  QUIET,
} from './native-fork.ts';
import { hasImmediates } from './node-timers.ts';
import { live, liveSync } from './way-out.ts';

const DEFAULT_QUIESCE_TIMEOUT = 5000;
/** A child that has not said so by then is taken for hung, and killed. ms */
const ALIVE_LIMIT = 10_000;
const OPTIONS = [
  'code',
  'onExit',
  'keepSignals',
  'inherit',
  'parentHandles',
  'detached',
  'title',
  'safety',
  'quiesceTimeout',
] as const;

interface Checked {
  code: (context: ForkContext) => unknown;
  onExit: ((exit: ExitStatus) => void) | undefined;
  keepSignals: boolean;
  title: string | undefined;
  safety: 'strict' | 'warn' | 'off';
  quiesceTimeout: number;
  listed: boolean;
  flags: number;
  named: Int32Array;
}

/** Who is told what becomes of a child. */
interface Birth {
  lives(child: ForkedProcess): void;
  died(error: Error): void;
  /** The kernel has no room to watch for its sign of life, and it was killed. */
  refused(error: Error, child: ForkedProcess): void;
}

/** What the fork gave the parent. */
interface Born {
  pid: number;
  /** Where to read the child's first word. */
  report: number;
  /** -1 without. */
  pidfd: number;
}

/** A child that has not said yet that it lives. */
interface Unborn {
  settle(): void;
}

export class Forks implements Phase {
  readonly loop: EventLoop;
  readonly exits: Exits;
  /** The child's loop: that of its thread. */
  readonly #current: () => Loop;
  readonly #isBlocked: () => boolean;
  /** Of forks whose moment has not come. */
  readonly #waiting = new Set<(error: Error) => void>();
  readonly #unborn = new Set<Unborn>();

  constructor(loop: EventLoop, exits: Exits, current: () => Loop, isBlocked: () => boolean) {
    this.loop = loop;
    this.exits = exits;
    this.#current = current;
    this.#isBlocked = isBlocked;
  }

  /** `inherited`: descriptors of our own that the child gets whatever the options say. */
  fork(options: ForkOptions, inherited: readonly number[] = []): Promise<ForkedProcess> {
    const checked = check(options, inherited);
    if (this.#isBlocked()) {
      throw stateError(
        'IN_RUN_SYNC',
        'fork() waits for a moment without JavaScript on the stack, which does not come inside runSync(): use forkSync(), or run()',
      );
    }
    enforce(checked.safety);
    rehearse();
    this.exits.host.ready();
    const scope = new AsyncResource('FORKBEARD_FORK');
    return new Promise((resolve, reject) => {
      const done = (pid: number, report: number, pidfd: number) => {
        this.#waiting.delete(reject);
        if (pid === 0) becomeChild({ ...checked, scope, current: this.#current }, live);
        else if (pid < 0) reject(forkError(pid));
        else this.#bear({ pid, report, pidfd }, checked, birth);
      };
      const birth: Birth = {
        lives: resolve,
        died: reject,
        refused: (error, child) => void child.exited.then(() => reject(error)),
      };
      const quiet = () => {
        // Who waited was told when the loop was closed.
        if (!this.#waiting.has(reject)) return NEVER;
        if (checked.safety === 'strict' && !poolRests()) return NOT_YET;
        return hasImmediates() ? BUT_FOR_IMMEDIATES : QUIET;
      };
      const { flags, named, quiesceTimeout } = checked;
      this.#waiting.add(reject);
      const errno = nativeFork().forkLater(flags, named, quiesceTimeout, quiet, done);
      if (errno < 0) done(errno, -1, -1);
    });
  }

  forkSync(options: ForkOptions): ForkedProcess {
    const checked = check(options, []);
    if (types.isAsyncFunction(checked.code)) {
      throw invalidType('options.code', 'a function that is not async', checked.code);
    }
    enforce(checked.safety);
    rehearse();
    this.exits.host.ready();
    const out = new Int32Array(2);
    const deadline = performance.now() + checked.quiesceTimeout;
    for (;;) {
      // Between two tries V8 may do what its threads wait for: it interrupts JavaScript at calls and loops.
      const pid = nativeFork().forkNow(checked.flags, checked.named, out);
      if (pid === 0) {
        const scope = new AsyncResource('FORKBEARD_FORK');
        return becomeChild({ ...checked, scope, current: this.#current }, liveSync) as never;
      }
      if (pid > 0) {
        const [report = -1, pidfd = -1] = out;
        return this.#bear({ pid, report, pidfd }, checked, BIRTH_IN_SYNC);
      }
      if (pid === -EBUSY && performance.now() < deadline) continue;
      // Whatever it fails with: the try before may have left V8's threads asked to rest.
      nativeFork().abandon();
      throw forkError(pid);
    }
  }

  #bear({ pid, report, pidfd }: Born, { onExit, flags }: Checked, birth: Birth): ForkedProcess {
    const child = new ChildHandle(this.exits, {
      pid,
      pidfd,
      detached: (flags & FLAG_DETACHED) !== 0,
      onExit,
    });
    const message = new Int32Array(1);
    const onReadReady = () => {
      const count = read(report, new Uint8Array(message.buffer));
      unborn.settle();
      if (count === message.byteLength && message[0] === 0) birth.lives(child);
      else if (count === message.byteLength) birth.died(systemError(message[0] as number, 'fork', { pid }));
      else {
        const died = stateError('FORK_DIED', `The forked child ${pid} ended before its code could begin`);
        void child.exited.then(({ exitCode, signal }) =>
          birth.died(Object.assign(died, { exitCode, signal })),
        );
      }
    };
    let watcher: IoWatcher;
    try {
      watcher = this.loop.watchIo(report, { onReadReady });
    } catch (error) {
      close(report);
      killIfAlive(child);
      birth.refused(error as Error, child);
      return child;
    }
    const limit = this.loop.watchTime({ after: ALIVE_LIMIT }, () => {
      unborn.settle();
      killIfAlive(child);
      birth.died(
        Object.assign(
          stateError('FORK_HUNG', `The forked child ${pid} gave no sign of life and was killed`),
          { pid },
        ),
      );
    });
    limit.unref();
    const unborn: Unborn = {
      settle: () => {
        this.#unborn.delete(unborn);
        watcher.stop();
        limit.stop();
        close(report);
      },
    };
    this.#unborn.add(unborn);
    this.#whenClosed.set(unborn, () => birth.lives(child));
    return child;
  }

  readonly #whenClosed = new WeakMap<Unborn, () => void>();

  // As a phase it has nothing to do in a round; it wants to hear of the end.

  readonly pending = false;

  run(): void {}

  recreated(): void {}

  close(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const reject of waiting) reject(stateError('LOOP_CLOSED', 'The loop is closed'));
    for (const unborn of [...this.#unborn]) {
      unborn.settle();
      this.#whenClosed.get(unborn)?.();
    }
  }
}

function ignore(): void {}

/** A child of forkSync is handed out before it has reported. */
const BIRTH_IN_SYNC: Birth = {
  lives: ignore,
  died: ignore,
  refused: (error) => {
    throw error;
  },
};

export function killIfAlive(child: ForkedProcess): void {
  try {
    child.kill('SIGKILL');
  } catch {
    // It ended at this moment.
  }
}

function forkError(errno: number): Error {
  if (errno === -EBUSY) {
    return stateError(
      'FORK_BUSY',
      "No quiet moment for a fork came: V8's threads or libuv's pool were busy all the time",
    );
  }
  return systemError(errno, 'fork');
}

function check(options: ForkOptions, inherited: readonly number[]): Checked {
  checkObject(options, 'options');
  checkKeys(options, OPTIONS, 'fork option');
  const {
    code,
    onExit,
    keepSignals = false,
    inherit = 'all',
    parentHandles = 'silence',
    detached = false,
    title,
    safety = 'strict',
    quiesceTimeout = DEFAULT_QUIESCE_TIMEOUT,
  } = options;
  checkFunction(code, 'options.code');
  if (onExit !== undefined) checkFunction(onExit, 'options.onExit');
  checkBoolean(keepSignals, 'options.keepSignals');
  if (parentHandles !== 'silence' && parentHandles !== 'close')
    throw invalidValue('options.parentHandles', "'silence' or 'close'", parentHandles);
  checkBoolean(detached, 'options.detached');
  if (title !== undefined && typeof title !== 'string') throw invalidType('options.title', 'a string', title);
  if (safety !== 'strict' && safety !== 'warn' && safety !== 'off')
    throw invalidValue('options.safety', "'strict', 'warn' or 'off'", safety);
  if (typeof quiesceTimeout !== 'number')
    throw invalidType('options.quiesceTimeout', 'a number', quiesceTimeout);
  if (!(quiesceTimeout >= 0)) throw outOfRange('options.quiesceTimeout', '>= 0', quiesceTimeout);
  const listed = inherit !== 'all';
  const named = listed ? checkDescriptors(inherit) : [];
  if (!isMainThread) throw mainThreadOnly('fork()');
  return {
    code: code as Checked['code'],
    onExit: onExit as Checked['onExit'],
    keepSignals,
    title,
    safety,
    quiesceTimeout,
    listed,
    flags:
      (keepSignals ? FLAG_KEEP_SIGNALS : 0) |
      (parentHandles === 'close' ? FLAG_CLOSE_HANDLES : 0) |
      (listed ? FLAG_LISTED : 0) |
      (detached ? FLAG_DETACHED : 0),
    named: Int32Array.from([...named, ...inherited]),
  };
}

function checkDescriptors(inherit: readonly number[]): readonly number[] {
  if (!Array.isArray(inherit))
    throw invalidType('options.inherit', "'all' or an array of descriptors", inherit);
  inherit.forEach((fd, index) => {
    checkFd(fd, `options.inherit[${index}]`);
    try {
      fstatSync(fd);
    } catch (error) {
      throw systemError((error as { errno: number }).errno, 'fork', { fd });
    }
  });
  return inherit;
}
