import { AsyncLocalStorage } from 'node:async_hooks';
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { Loop, type SignalInfo, type Watcher } from 'forkbeard';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  compile,
  Events,
  fixture,
  loopsOfTest,
  PATIENCE,
  rounds,
  signalSet,
  slow,
  spinUntil,
  ways,
} from './support.ts';

const { SIGUSR1, SIGUSR2, SIGWINCH, SIGPIPE, SIGTERM, SIGCHLD } = constants.signals;
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

describe('dispositions', () => {
  const isCaught = (number: number) => signalSet('SigCgt').includes(number);
  const isIgnored = (number: number) => signalSet('SigIgn').includes(number);

  test.each([
    ['ignored', 'SIGPIPE', SIGPIPE],
    ["caught by Node's own handler", 'SIGTERM', SIGTERM],
    ["caught by Node's own handler", 'SIGUSR1', SIGUSR1],
    ['the default', 'SIGUSR2', SIGUSR2],
  ])('what was found is restored by the last watcher: %s (%s)', (_, name, number) => {
    const before = { caught: signalSet('SigCgt'), ignored: signalSet('SigIgn') };
    const loop = makeLoop();
    const watchers = [loop.watchSignal(name, () => {}), makeLoop().watchSignal(name, () => {})];
    expect(isCaught(number)).toBe(true);
    expect(isIgnored(number)).toBe(false);
    watchers[0]?.stop();
    expect(isCaught(number)).toBe(true);
    watchers[1]?.stop();
    expect({ caught: signalSet('SigCgt'), ignored: signalSet('SigIgn') }).toEqual(before);
  });

  test('masks stay as they are, in every thread', () => {
    const before = signalSet('SigBlk');
    makeLoop().watchSignal('USR2', () => {});
    expect(signalSet('SigBlk')).toEqual(before);
  });

  test('a program that is started does not inherit what is watched', async () => {
    makeLoop().watchSignal('USR2', () => {});
    makeLoop().watchSignal('HUP', () => {});
    // A sanitizer's runtime would catch signals in it.
    const env = { ...process.env, LD_PRELOAD: undefined };
    const { stdout } = await run('cat', ['/proc/self/status'], { env });
    expect(stdout.match(/^Sig(Blk|Cgt):\s*0{16}$/gm)).toHaveLength(2);
  });
});

describe('beside process.on', () => {
  // Every order of watch, stop, on and off in which each comes after what it undoes.
  const orders: string[][] = [];
  const extend = (done: string[], left: string[]) => {
    if (left.length === 0) orders.push(done);
    for (const step of left) {
      const needs = { stop: 'watch', off: 'on', 'stop again': 'watch again', 'off again': 'on again' }[step];
      const after = { 'watch again': 'stop', 'on again': 'off' }[step];
      if ((needs && !done.includes(needs)) || (after && !done.includes(after))) continue;
      extend(
        [...done, step],
        left.filter((other) => other !== step),
      );
    }
  };
  extend([], ['watch', 'stop', 'on', 'off', 'watch again', 'stop again', 'on again', 'off again']);

  test(`works in all ${orders.length} orders of coming and going`, async () => {
    expect(orders.length).toBe(70);
    const loop = makeLoop();
    const before = signalSet('SigCgt');
    for (const order of orders) {
      let ours = 0;
      let nodes = 0;
      let changed = () => {};
      const listener = () => {
        nodes++;
        changed();
      };
      let watcher: Watcher | undefined;
      let listening = false;
      for (const step of order) {
        const [action] = step.split(' ');
        if (action === 'watch') {
          watcher = loop.watchSignal('USR2', () => {
            ours++;
            changed();
          });
        } else if (action === 'stop') {
          watcher?.stop();
          watcher = undefined;
        } else if (action === 'on') {
          process.on('SIGUSR2', listener);
          listening = true;
        } else {
          process.off('SIGUSR2', listener);
          listening = false;
        }
        const expected = { ours: watcher === undefined ? 0 : 1, nodes: listening ? 1 : 0 };
        if (expected.ours + expected.nodes === 0) {
          expect(signalSet('SigCgt'), `${order}: ${step}`).toEqual(before);
          continue;
        }
        ours = 0;
        nodes = 0;
        const arrived = new Promise<void>((resolve) => {
          changed = () => {
            if (ours >= expected.ours && nodes >= expected.nodes) resolve();
          };
        });
        raise();
        await arrived;
        await rounds(loop, 'integrated', 1);
        expect({ ours, nodes }, `${order}: ${step}`).toEqual(expected);
      }
    }
  });

  test('process.once goes without taking ours along', async () => {
    const loop = makeLoop();
    const events = new Events<SignalInfo>(loop, 'integrated');
    loop.watchSignal('USR2', events.push);
    const told = once(process, 'SIGUSR2');
    raise();
    await told;
    await events.count(1);
    raise();
    await events.count(2);
  });

  test('a child that this thread waits for synchronously ends while SIGCHLD is watched', async () => {
    const program = `
      const { execFileSync } = require('node:child_process');
      const { Loop } = require('forkbeard');
      Loop.current().watchSignal('SIGCHLD', () => {});
      const said = [];
      for (const word of ['one', 'two', 'three']) said.push(execFileSync('sh', ['-c', 'sleep 0.05; echo ' + word]));
      console.log(said.join(''));
      process.exit();`;
    const { stdout } = await run(process.execPath, ['-e', program], { timeout: 60_000 });
    expect(stdout.split('\n').filter(Boolean)).toEqual(['one', 'two', 'three']);
  });

  test.runIf(process.platform === 'linux')(
    'hears of what another thread takes, however late that one goes on',
    async () => {
      const threads = () => readdirSync('/proc/self/task');
      const before = threads();
      const worker = new Worker("require('node:worker_threads').parentPort.on('message', () => {})", {
        eval: true,
      });
      await once(worker, 'online');
      const thread = threads().find((each) => !before.includes(each)) as string;
      const toThread = compile('to-thread');
      const sender = spawn(toThread.program, [String(process.pid), thread, String(SIGUSR2)], {
        stdio: ['pipe', 'inherit', 'inherit'],
      });
      const loop = makeLoop();
      const watcher = loop.watchSignal('USR2', () => {});
      let told = () => {};
      const listener = () => told();
      process.on('SIGUSR2', listener);
      for (let i = 0; i < Math.round(1000 / slow); i++) {
        const heard = new Promise<void>((resolve) => {
          told = resolve;
        });
        sender.stdin.write('x');
        await heard;
      }
      process.off('SIGUSR2', listener);
      watcher.stop();
      sender.stdin.end();
      expect(await once(sender, 'exit')).toEqual([0, null]);
      toThread.remove();
      await worker.terminate();
    },
  );

  test('what fills while this thread blocks is not lost to process.on', async () => {
    const loop = makeLoop();
    let nodes = 0;
    const listener = () => nodes++;
    const told = once(process, 'SIGWINCH');
    process.on('SIGUSR2', listener);
    loop.watchSignal('USR2', () => {});
    loop.watchSignal('WINCH', () => {});
    // More than libuv's pipe has room for.
    for (let i = 0; i < 10_000; i++) raise('SIGUSR2');
    raise('SIGWINCH');
    await told;
    await rounds(loop, 'integrated');
    process.off('SIGUSR2', listener);
    expect(nodes).toBeGreaterThan(0);
  });

  test('what fills while this thread blocks is not lost to our watchers either', async () => {
    const loop = makeLoop();
    const events = new Events<SignalInfo>(loop, 'integrated');
    const listener = () => {};
    process.on('SIGUSR2', listener);
    loop.watchSignal('WINCH', events.push);
    // libuv's own messages alone fill its pipe; the one that would have announced ours is dropped.
    for (let i = 0; i < 10_000; i++) raise('SIGUSR2');
    raise('SIGWINCH');
    await events.count(1);
    process.off('SIGUSR2', listener);
  });

  test('child_process and a watcher of SIGCHLD do not disturb each other', async () => {
    const before = signalSet('SigCgt');
    const loop = makeLoop();
    const events = new Events<SignalInfo>(loop, 'integrated');
    const start = () => spawn('true', { stdio: 'ignore' });
    const ended = (child: ChildProcess) => once(child, 'close');
    // libuv's handler comes first, ours comes and stays while libuv's last child goes and another one comes.
    const first = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] });
    const watcher = loop.watchSignal('CHLD', events.push);
    first.stdin.end();
    await Promise.all([ended(first), events.count(1)]);
    const second = start();
    await Promise.all([ended(second), events.until((all) => all.some((info) => info.pid === second.pid))]);
    raise('SIGCHLD');
    await events.until((all) => all.some((info) => info.pid === process.pid));
    // And the other way round.
    const third = start();
    watcher.stop();
    await ended(third);
    await ended(start());
    expect(signalSet('SigCgt').filter((number) => number !== SIGCHLD)).toEqual(
      before.filter((number) => number !== SIGCHLD),
    );
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

describe.runIf(RTMIN !== undefined)('real-time signals', () => {
  let sigqueue: ReturnType<typeof compile>;
  beforeAll(() => {
    sigqueue = compile('sigqueue');
  });
  afterAll(() => sigqueue.remove());
  const send = (number: number, first: number, count: number) =>
    run(sigqueue.program, [process.pid, number, first, count].map(String));
  const sum = (all: SignalInfo[]) => all.reduce((total, info) => total + info.count, 0);

  test.each(ways)('bring their values, $backend, $mode', async ({ backend, mode }) => {
    const loop = makeLoop({ backend });
    const events = new Events<SignalInfo>(loop, mode);
    loop.watchSignal('RTMIN+3', events.push);
    execFileSync(sigqueue.program, [process.pid, 37, -5, 1].map(String));
    await events.count(1);
    const info = events.all[0] as SignalInfo;
    expect(info).toMatchObject({
      signal: 'SIGRTMIN+3',
      number: 37,
      count: 1,
      code: -1,
      value: -5,
      uid: process.getuid?.(),
    });
    expect(info.pid).toBeGreaterThan(0);
  });

  test.each(ways)(
    'in a storm, each is a callback with its value, $backend, $mode',
    async ({ backend, mode }) => {
      const loop = makeLoop({ backend });
      const events = new Events<SignalInfo>(loop, mode);
      loop.watchSignal('SIGRTMIN', events.push);
      loop.watchSignal('SIGRTMAX', events.push);
      const count = Math.round(5000 / slow);
      const [, , all] = await Promise.all([
        send(34, 0, count),
        send(64, count, count),
        events.until((seen) => seen.length >= 2 * count),
      ]);
      expect(all).toHaveLength(2 * count);
      expect(new Set(all.map((info) => info.value)).size).toBe(2 * count);
      expect(Math.max(...all.map((info) => info.value ?? 0))).toBe(2 * count - 1);
    },
  );

  test('wait for a thread that is busy; beyond what is kept, values go and the count stays', async () => {
    const loop = makeLoop();
    const events = new Events<SignalInfo>(loop, 'integrated');
    loop.watchSignal('SIGRTMIN+1', events.push);
    const count = 40_000;
    // This thread does nothing else meanwhile.
    execFileSync(sigqueue.program, [process.pid, 35, 0, count].map(String));
    await events.until((all) => sum(all) >= count);
    expect(sum(events.all)).toBe(count);
    expect(new Set(events.all.map((info) => info.value)).size).toBeGreaterThan(32_000);
  });

  test('that are pending for a watcher that goes do not reach the next one, others stay', async () => {
    const loop = makeLoop();
    const events = new Events<SignalInfo>(loop, 'integrated');
    const watcher = loop.watchSignal(34, events.push);
    loop.watchSignal(35, events.push);
    execFileSync(sigqueue.program, [process.pid, 35, 7, 2].map(String));
    execFileSync(sigqueue.program, [process.pid, 34, 1, 2].map(String));
    watcher.stop();
    loop.watchSignal(34, events.push);
    await events.count(2);
    await rounds(loop, 'integrated');
    expect(events.all.map(({ number, value }) => [number, value])).toEqual([
      [35, 7],
      [35, 8],
    ]);
  });
});

describe('a storm of standard signals', () => {
  test('always ends in a callback after the last one', async () => {
    const loop = makeLoop();
    const events = new Events<SignalInfo>(loop, 'integrated');
    const last = new Events<SignalInfo>(loop, 'integrated');
    loop.watchSignal('USR2', events.push);
    loop.watchSignal('WINCH', last.push);
    const script = `i=0; while [ $i -lt ${Math.round(5000 / slow)} ]; do kill -USR2 ${process.pid}; i=$((i+1)); done`;
    const senders = [1, 2].map(() => once(spawn('sh', ['-c', script], { stdio: 'inherit' }), 'exit'));
    await Promise.all(senders);
    const before = events.all.length;
    raise('SIGUSR2');
    raise('SIGWINCH');
    await last.count(1);
    await events.until((all) => all.length > before);
    expect(last.all).toHaveLength(1);
  });

  test('does not disturb watchers that come and go all the time', async () => {
    const loop = makeLoop();
    loop.watchSignal('WINCH', () => {});
    const script = `while kill -USR2 ${process.pid}; do :; done 2>/dev/null`;
    const steady = loop.watchSignal('USR2', () => {});
    const sender = spawn('sh', ['-c', script], { stdio: 'ignore' });
    const other = makeLoop();
    for (let i = 0; i < 300; i++) {
      const watcher = other.watchSignal('USR2', () => {});
      if (i % 3 === 0) await rounds(loop, 'integrated', 1);
      watcher.stop();
    }
    sender.kill('SIGKILL');
    await once(sender, 'exit');
    steady.stop();
    expect(signalSet('SigCgt')).not.toContain(SIGUSR2);
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
