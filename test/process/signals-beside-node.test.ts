/** Signal watchers beside what Node and its programs do with signals: dispositions, process.on, child_process. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import type { SignalInfo, Watcher } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { compile, Events, loopsOfTest, rounds, signalSet, slow } from './support.ts';

const { SIGUSR1, SIGUSR2, SIGPIPE, SIGTERM, SIGCHLD } = constants.signals;
const run = promisify(execFile);

const makeLoop = loopsOfTest();

const raise = (signal: string | number = 'SIGUSR2') => process.kill(process.pid, signal);

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

  test.each(['the watcher', 'the listener'])(
    'its listeners are called after our watchers: %s came first',
    async (first) => {
      const loop = makeLoop();
      const events = new Events<string>(loop, 'integrated');
      const watch = () => void loop.watchSignal('USR2', () => events.push('watcher'));
      const listener = () => events.push('listener');
      if (first === 'the watcher') watch();
      process.on('SIGUSR2', listener);
      if (first === 'the listener') watch();
      for (let told = 2; told <= 40; told += 2) {
        raise();
        await events.count(told);
      }
      process.off('SIGUSR2', listener);
      expect(events.all).toEqual(Array.from({ length: 20 }, () => ['watcher', 'listener']).flat());
    },
  );

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
