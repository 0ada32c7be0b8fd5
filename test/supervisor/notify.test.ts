/** What a service may tell over its NOTIFY_SOCKET, on a clock of the test's own. The test is its own service here. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Loop, sys } from 'forkbeard';
import { expect, onTestFinished, test } from 'vitest';
import { Notices } from '../../dist/supervisor/notices.js';
import { eventually, folder, within } from './support.ts';

class HandClock {
  #now = 1000;
  #timers = new Set<{ due: number; callback: () => void }>();
  now = () => this.#now;
  after = (ms: number, callback: () => void) => {
    const timer = { due: this.#now + ms, callback };
    this.#timers.add(timer);
    return { [Symbol.dispose]: () => void this.#timers.delete(timer) };
  };
  pass(ms: number): void {
    this.#now += ms;
    for (const timer of [...this.#timers]) {
      if (timer.due <= this.#now && this.#timers.delete(timer)) timer.callback();
    }
  }
}

function notices() {
  const clock = new HandClock();
  const path = join(folder(), 'x.notify');
  const it = new Notices(Loop.current(), { path, shim: () => process.pid, clock });
  onTestFinished(() => it.close());
  const fd = sys.socket('unix', 'dgram');
  onTestFinished(() => sys.close(fd));
  let said = 0;
  /** Until it was heard. */
  const say = async (text: string) => {
    const mark = `heard ${++said}`;
    sys.sendTo(fd, Buffer.from(`${text}\nSTATUS=${mark}`), { path });
    await eventually(mark, () => it.text === mark);
  };
  return { it, clock, say, path };
}

const never = new AbortController().signal;

test('READY=1 is heard, also before anybody waits for it', async () => {
  const { it, say } = notices();
  await say('READY=1');
  expect(await within('ready', it.ready(1000, never))).toBe(null);
});

test('silence is over when its time is', async () => {
  const { it, clock } = notices();
  const ready = it.ready(1000, never);
  clock.pass(1000);
  expect(await within('the limit', ready)).toBe('it did not say READY=1 within 1 s');
});

test('EXTEND_TIMEOUT_USEC gives more time, and no more than it says', async () => {
  const { it, clock, say } = notices();
  let answer: string | null | undefined;
  const ready = it.ready(1000, never).then((said) => {
    answer = said;
  });
  await say('EXTEND_TIMEOUT_USEC=5000000');
  clock.pass(4999);
  await say('');
  expect(answer).toBe(undefined);
  clock.pass(1);
  await within('the later limit', ready);
  expect(answer).toContain('READY=1');
});

test('nonsense is no extension, and no word of readiness', async () => {
  const { it, clock, say } = notices();
  const ready = it.ready(1000, never);
  await say('EXTEND_TIMEOUT_USEC=-1\nREADY=0\nREADY\n=\n\nEXTEND_TIMEOUT_USEC=soon');
  clock.pass(1000);
  expect(await within('the limit', ready)).toContain('READY=1');
});

test('WATCHDOG=1 is a beat, WATCHDOG=trigger the opposite', async () => {
  const { it, clock, say } = notices();
  clock.pass(60);
  expect(it.watchdog(50)).toBe('it has not said WATCHDOG=1 for 60 ms');
  await say('WATCHDOG=1');
  expect(it.watchdog(50)).toBe(null);
  await say('WATCHDOG=trigger');
  expect(it.watchdog(50)).toContain('not well');
});

test('BARRIER=1 is answered: what came with it is closed', async () => {
  const { path, say } = notices();
  const [mine, theirs] = sys.pipe();
  const fd = sys.socket('unix', 'dgram');
  sys.connect(fd, { path });
  sys.sendDescriptors(fd, Buffer.from('BARRIER=1'), [theirs]);
  sys.close(theirs);
  await say('');
  expect(sys.read(mine, new Uint8Array(1))).toBe(0);
  sys.close(mine);
  sys.close(fd);
});

test('the socket goes with the run', () => {
  const { it, path } = notices();
  expect(existsSync(path)).toBe(true);
  it.close();
  it.close();
  expect(existsSync(path)).toBe(false);
});
