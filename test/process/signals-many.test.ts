/** Signals by the thousand: real-time ones, which queue, and storms of standard ones, which do not. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { promisify } from 'node:util';
import type { SignalInfo } from 'forkbeard';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { compile, Events, loopsOfTest, rounds, signalSet, slow, ways } from './support.ts';

const { SIGUSR2 } = constants.signals;
const RTMIN = process.platform === 'linux' ? 34 : undefined;
const run = promisify(execFile);

const makeLoop = loopsOfTest();

const raise = (signal: string | number = 'SIGUSR2') => process.kill(process.pid, signal);

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
    // Two threads that take one each may tell the second before the first.
    expect(events.all.map(({ number, value }) => `${number}: ${value}`).sort()).toEqual(['35: 7', '35: 8']);
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
