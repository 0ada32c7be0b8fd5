/** Signal watchers: what they are told, in which order, in how many loops, and what nobody can watch. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { Loop, type SignalInfo, type Watcher } from 'forkbeard';
import { afterAll, describe, expect, test } from 'vitest';
import { Events, fixture, loopsOfTest, PATIENCE, rounds, signalSet, spinUntil, ways } from './support.ts';

const { SIGUSR2, SIGWINCH } = constants.signals;
const RTMIN = process.platform === 'linux' ? 34 : undefined;
const run = promisify(execFile);

const makeLoop = loopsOfTest();

const raise = (signal: string | number = 'SIGUSR2') => process.kill(process.pid, signal);

describe.each(ways)('a signal watcher, $backend, $mode', ({ backend, mode }) => {
  const make = () => {
    const loop = makeLoop({ backend });
    return { loop, events: new Events<SignalInfo>(loop, mode) };
  };

  test('is called from the loop, never inside the handler', async () => {
    const { loop, events } = make();
    loop.watchSignal('USR2', events.push);
    await rounds(loop, mode);
    expect(events.all).toHaveLength(0);
    for (const turn of [1, 2]) {
      raise();
      expect(events.all).toHaveLength(turn - 1);
      await events.count(turn);
      expect(events.all).toHaveLength(turn);
    }
  });

  test('shares its signal with any number of others', async () => {
    const { loop, events } = make();
    const others = new Events<SignalInfo>(loop, mode);
    const first = loop.watchSignal('SIGUSR2', others.push);
    loop.watchSignal(SIGUSR2, events.push);
    raise();
    await events.count(1);
    expect(others.all).toHaveLength(1);
    first.stop();
    expect(first.active).toBe(false);
    raise();
    await events.count(2);
    expect(others.all).toHaveLength(1);
  });

  test('that is stopped gets no event of the same batch', async () => {
    const { loop, events } = make();
    const watchers: Watcher[] = [];
    for (let i = 0; i < 2; i++) {
      watchers.push(
        loop.watchSignal('USR2', (info) => {
          for (const watcher of watchers) watcher.stop();
          events.push(info);
        }),
      );
    }
    const last = new Events<SignalInfo>(loop, mode);
    loop.watchSignal('WINCH', last.push);
    raise('SIGUSR2');
    raise('SIGWINCH');
    await last.count(1);
    expect(events.all).toHaveLength(1);
  });

  test('that was stopped and made again is not told what came before', async () => {
    const { loop, events } = make();
    const watcher = loop.watchSignal('USR2', events.push);
    raise();
    watcher.stop();
    loop.watchSignal('USR2', events.push);
    await rounds(loop, mode);
    expect(events.all).toHaveLength(0);
    raise();
    await events.count(1);
    expect(events.all[0]?.count).toBe(1);
  });

  test('survives postFork in the same process and is told once', async () => {
    const { loop, events } = make();
    loop.watchSignal('USR2', events.push);
    loop.postFork();
    raise();
    await events.count(1);
    await rounds(loop, mode);
    expect(events.all).toHaveLength(1);
  });

  test('learns who sent it', async () => {
    const { loop, events } = make();
    loop.watchSignal('USR2', events.push);
    const child = spawn('sh', ['-c', `kill -USR2 ${process.pid}; read end`], {
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    await events.count(1);
    expect(events.all).toEqual([
      { signal: 'SIGUSR2', number: SIGUSR2, count: 1, code: 0, pid: child.pid, uid: process.getuid?.() },
    ]);
    child.stdin?.end();
    await once(child, 'exit');
  });

  test('is told how many deliveries a callback stands for', async () => {
    const { loop, events } = make();
    loop.watchSignal('USR2', events.push);
    for (let i = 0; i < 5; i++) raise();
    await events.count(1);
    expect(events.all.map((info) => info.count)).toEqual([5]);
  });

  test('loses none of several signals that come at once', async () => {
    const { loop, events } = make();
    const names = ['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGTERM', 'SIGCONT', 'SIGWINCH', 'SIGIO'];
    for (const name of names) loop.watchSignal(name, events.push);
    for (const name of names) raise(name);
    await events.count(names.length);
    expect(events.all.map((info) => info.signal).sort()).toEqual([...names].sort());
  });

  test('whose callback throws loses nothing for the others', async () => {
    const loop = makeLoop({ backend });
    const events = new Events<SignalInfo>(loop, mode);
    const failure = new Error('thrown by a callback');
    loop.watchSignal('USR2', () => {
      throw failure;
    });
    loop.watchSignal('USR2', events.push);
    const surfaced: unknown[] = [];
    // vitest's own listeners would fail the test for what is meant to surface here.
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.once('uncaughtException', (error) => surfaced.push(error));
    try {
      raise();
      if (mode === 'blocking') expect(() => loop.runOnce(PATIENCE)).toThrow(failure);
      else await events.count(1);
      await rounds(loop, mode);
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const listener of listeners) process.on('uncaughtException', listener);
    }
    expect(events.all).toHaveLength(1);
    expect(surfaced).toEqual(mode === 'blocking' ? [] : [failure]);
  });

  test('is called in the async context of its registration', async () => {
    const { loop, events } = make();
    const storage = new AsyncLocalStorage<string>();
    const seen: unknown[] = [];
    storage.run('registered here', () => {
      loop.watchSignal('USR2', (info) => {
        seen.push(storage.getStore());
        events.push(info);
      });
    });
    storage.run('raised here', () => raise());
    await events.count(1);
    expect(seen).toEqual(['registered here']);
  });

  test('goes when the loop is closed, also from its own callback', async () => {
    const before = signalSet('SigCgt');
    const { loop, events } = make();
    const watcher = loop.watchSignal('USR2', (info) => {
      loop.close();
      events.push(info);
    });
    loop.watchSignal('USR2', events.push);
    raise();
    await events.count(1);
    expect(watcher.active).toBe(false);
    expect(events.all).toHaveLength(1);
    expect(signalSet('SigCgt')).toEqual(before);
    expect(() => loop.watchSignal('USR2', events.push)).toThrow(
      expect.objectContaining({ code: 'ERR_FORKBEARD_LOOP_CLOSED' }),
    );
  });
});

describe('blocking runs', () => {
  test.each(ways.filter((way) => way.mode === 'blocking'))(
    'runSync is ended by a signal, $backend',
    ({ backend }) => {
      const loop = makeLoop({ backend });
      loop.watchSignal('USR2', (info) => loop.stop(info.pid));
      const child = spawn('sh', ['-c', `kill -USR2 ${process.pid}`], { stdio: 'inherit' });
      expect(loop.runSync<number>()).toBe(child.pid);
    },
  );

  test('a nested run goes on with what the outer one had fetched', () => {
    const loop = makeLoop();
    const order: string[] = [];
    loop.watchSignal('USR1', () => {
      order.push('in');
      loop.runOnce(0);
      order.push('out');
    });
    loop.watchSignal('USR2', () => order.push('second'));
    raise('SIGUSR1');
    raise('SIGUSR2');
    loop.runOnce(PATIENCE);
    expect(order).toEqual(['in', 'second', 'out']);
  });

  test('signals come after I/O and before timers of a round', () => {
    const loop = makeLoop();
    const order: string[] = [];
    loop.watchTime({ after: 0 }, () => order.push('timer'));
    loop.watchIdle(() => order.push('idle'));
    loop.watchSignal('USR2', () => order.push('signal'));
    raise();
    spinUntil(() => performance.now() % 1 > 0);
    loop.runOnce(PATIENCE);
    expect(order).toEqual(['signal', 'timer', 'idle']);
  });
});

describe('what cannot be watched', () => {
  const loop = new Loop();
  afterAll(() => loop.close());
  const codeOf = (signal: unknown) => {
    try {
      loop.watchSignal(signal as string, () => {}).stop();
      return undefined;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code;
    }
  };

  test.each([
    ['KILL', 'ERR_FORKBEARD_SIGNAL_UNCATCHABLE'],
    ['SIGSTOP', 'ERR_FORKBEARD_SIGNAL_UNCATCHABLE'],
    [9, 'ERR_FORKBEARD_SIGNAL_UNCATCHABLE'],
    ['SIGSEGV', 'ERR_FORKBEARD_SIGNAL_RESERVED'],
    ['BUS', 'ERR_FORKBEARD_SIGNAL_RESERVED'],
    ['FPE', 'ERR_FORKBEARD_SIGNAL_RESERVED'],
    ['ILL', 'ERR_FORKBEARD_SIGNAL_RESERVED'],
    ['PROF', 'ERR_FORKBEARD_SIGNAL_RESERVED'],
    ['SIGNONE', 'ERR_FORKBEARD_UNKNOWN_SIGNAL'],
    ['SIGRTMIN+99', 'ERR_FORKBEARD_UNKNOWN_SIGNAL'],
    [0, 'ERR_FORKBEARD_UNKNOWN_SIGNAL'],
    [65, 'ERR_FORKBEARD_UNKNOWN_SIGNAL'],
    [-1, 'ERR_FORKBEARD_UNKNOWN_SIGNAL'],
    [1.5, 'ERR_FORKBEARD_UNKNOWN_SIGNAL'],
    [undefined, 'ERR_FORKBEARD_INVALID_ARG_TYPE'],
    [{}, 'ERR_FORKBEARD_INVALID_ARG_TYPE'],
  ])('%s: %s', (signal, code) => {
    expect(codeOf(signal)).toBe(code);
  });

  test('every other signal can', () => {
    const before = { caught: signalSet('SigCgt'), ignored: signalSet('SigIgn') };
    const refused = Object.keys(constants.signals).filter((name) => codeOf(name) !== undefined);
    expect(refused.sort()).toEqual([
      'SIGBUS',
      'SIGFPE',
      'SIGILL',
      'SIGKILL',
      'SIGPROF',
      'SIGSEGV',
      'SIGSTOP',
    ]);
    expect({ caught: signalSet('SigCgt'), ignored: signalSet('SigIgn') }).toEqual(before);
  });

  test("the C library's own numbers are named as such", () => {
    if (RTMIN === undefined) return;
    expect([32, 33].map(codeOf)).toEqual(['ERR_FORKBEARD_SIGNAL_RESERVED', 'ERR_FORKBEARD_SIGNAL_RESERVED']);
  });

  test('a callback that is none is refused before anything is touched', () => {
    const before = signalSet('SigCgt');
    expect(() => loop.watchSignal('USR2', 1 as never)).toThrow(TypeError);
    expect(signalSet('SigCgt')).toEqual(before);
  });
});

describe('several loops', () => {
  test('each one that watches is told, and closing one does not silence the others', async () => {
    const loops = [makeLoop(), makeLoop(), makeLoop()];
    const events = loops.map((loop) => new Events<SignalInfo>(loop, 'integrated'));
    loops.forEach((loop, i) => {
      loop.watchSignal('USR2', (events[i] as Events<SignalInfo>).push);
    });
    raise();
    await Promise.all(events.map((each) => each.count(1)));
    loops[1]?.close();
    raise();
    await Promise.all([events[0]?.count(2), events[2]?.count(2)]);
    expect(events.map((each) => each.all.length)).toEqual([2, 1, 2]);
  });

  test('a loop in a Worker is told as well, and its end leaves ours alone', async () => {
    const before = signalSet('SigCgt');
    const loop = makeLoop();
    const events = new Events<SignalInfo>(loop, 'integrated');
    loop.watchSignal('WINCH', events.push);
    const worker = new Worker(fixture('signal-worker.mjs'), { workerData: { signals: ['WINCH', 'USR2'] } });
    expect(await once(worker, 'message')).toEqual(['watching']);
    expect(signalSet('SigCgt')).toEqual(expect.arrayContaining([SIGWINCH, SIGUSR2]));
    let told = once(worker, 'message');
    raise('SIGWINCH');
    expect(await told).toEqual(['SIGWINCH']);
    await events.count(1);
    // Of the Worker alone.
    told = once(worker, 'message');
    raise('SIGUSR2');
    expect(await told).toEqual(['SIGUSR2']);
    // process.on in the main thread, over what only the Worker watches.
    const listener = () => {};
    process.on('SIGUSR2', listener);
    told = once(worker, 'message');
    raise('SIGUSR2');
    expect(await told).toEqual(['SIGUSR2']);
    process.off('SIGUSR2', listener);
    told = once(worker, 'message');
    raise('SIGUSR2');
    expect(await told).toEqual(['SIGUSR2']);

    await worker.terminate();
    expect(signalSet('SigCgt')).not.toContain(SIGUSR2);
    raise('SIGWINCH');
    await events.count(2);
    loop.close();
    expect(signalSet('SigCgt')).toEqual(before);
  });
});

describe('keeping the process alive', () => {
  const node = (...args: string[]) => run(process.execPath, [fixture('signal-ref.mjs'), ...args]);

  test("a ref'ed watcher does, until it is stopped", async () => {
    expect((await node('ref')).stdout).toBe('signalled, then ended\n');
  });

  test("an unref'ed one does not", async () => {
    expect((await node('unref')).stdout).toBe('ended\n');
  });
});
