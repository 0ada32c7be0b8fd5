/** What real services say over their NOTIFY_SOCKET, and what becomes of it; whom nobody listens to. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { sys } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { PATIENCE } from '../process/support.ts';
import { Watched } from './watched.ts';

describe('sd_notify', () => {
  // The fixture says what it is told to, over the socket that it finds.
  const says = (...words: string[]) => `exec python3 - ${words.map((word) => `'${word}'`).join(' ')} <<'END'
import os, signal, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
def say(words):
    for word in words:
        if word.startswith("sleep "): time.sleep(float(word[6:]))
        elif word == "exit": os._exit(0)
        elif word == "spin":
            while True: pass
        elif word.startswith("TERM "): signal.signal(signal.SIGTERM, lambda *_, words=word[5:]: say(words.split("; ")))
        else: s.send(word.replace("|", "\\n").encode())
say(sys.argv[1:])
while True: time.sleep(1000)
END`;

  test('says when a service is ready, and how it is', async () => {
    const x = new Watched(says('STATUS=warming up', 'sleep 0.2', 'READY=1|STATUS=at your service'), {
      ready: { notify: true, within: PATIENCE, timeout: 0 },
    });
    await x.it.start();
    expect(x.of('ready')[0]?.ms).toBeGreaterThanOrEqual(200);
    expect(x.it.status().text).toBe('at your service');
  });

  test('of a stranger is passed over', async () => {
    const x = new Watched('sleep 1000', { ready: { notify: true, within: PATIENCE, timeout: 0 } });
    const starting = x.it.start();
    await x.nth('started');
    const name = readdirSync(x.state.path).find((file) => file.endsWith('.notify')) as string;
    const fd = sys.socket('unix', 'dgram');
    sys.sendTo(fd, Buffer.from('READY=1\nSTATUS=of a stranger'), { path: join(x.state.path, name) });
    sys.close(fd);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(x.it.status()).toMatchObject({ state: 'starting', text: null });
    const stopped = expect(starting).rejects.toMatchObject({ code: 'ERR_FORKBEARD_STOPPED' });
    await x.it.stop();
    await stopped;
    expect(readdirSync(x.state.path)).toEqual(['x.lock']);
  });

  test('as a watchdog: who is silent for too long is started again', async () => {
    const x = new Watched(says('READY=1', 'WATCHDOG=1'), {
      ready: { notify: true, within: PATIENCE, timeout: 0 },
      live: { notify: true, every: 100, timeout: 100, failures: 2 },
    });
    const { pid } = await x.it.start();
    const again = await x.nth('ready', 2);
    expect(again.pid).not.toBe(pid);
    expect(x.of('backoff')[0]).toMatchObject({
      cause: 'unhealthy',
      message: expect.stringContaining('WATCHDOG=1'),
    });
  });

  test('as a watchdog: a busy loop is found after so many beats that did not come, and ended once', async () => {
    const again = `[ -e $STATE/again ] && ${says('READY=1', 'WATCHDOG=1')}`;
    const x = new Watched(`${again}\ntouch $STATE/again\n${says('READY=1', 'WATCHDOG=1', 'spin')}`, {
      ready: { notify: true, within: PATIENCE, timeout: 0 },
      live: { notify: true, every: 60, timeout: 60, failures: 3 },
    });
    await x.it.start();
    await x.nth('health');
    const first = performance.now();
    expect(await x.nth('backoff')).toMatchObject({ cause: 'unhealthy', failures: 1 });
    // The first of them was told; the other two come as far apart as beats.
    expect(performance.now() - first).toBeGreaterThanOrEqual(100);
    await x.nth('ready', 2);
    expect(x.of('exit').slice(0, 1)).toEqual([expect.objectContaining({ asked: true })]);
  });

  test('EXTEND_TIMEOUT_USEC gives more time to end, and no more than it says', async () => {
    const stopped = async (words: string) => {
      const x = new Watched(says(`TERM ${words}`, 'READY=1'), {
        ready: { notify: true, within: PATIENCE, timeout: 0 },
        stop: [
          { signal: 'TERM', wait: 500 },
          { signal: 'KILL', wait: 5000 },
        ],
      });
      await x.it.start();
      return x.it.stop();
    };
    const [inTime, late] = await Promise.all([
      stopped('EXTEND_TIMEOUT_USEC=60000000; sleep 0.8; exit'),
      stopped('EXTEND_TIMEOUT_USEC=800000'),
    ]);
    expect(inTime).toMatchObject({ exit: { exitCode: 0 }, steps: [{ signal: 'SIGTERM' }] });
    expect(inTime.steps).toHaveLength(1);
    expect(late).toMatchObject({ exit: { signal: 'SIGKILL' }, steps: [{}, { signal: 'SIGKILL' }] });
    expect(late.steps[1]?.at).toBeGreaterThanOrEqual(795);
  });

  test('of another main process is passed over, whoever that is', async () => {
    const strangers = [0, 1, -1, process.pid, 2 ** 31 - 1, 'self'].map((pid) => `MAINPID=${pid}`);
    const x = new Watched(says(...strangers, 'READY=1|STATUS=said'), {
      ready: { notify: true, within: PATIENCE, timeout: 0 },
    });
    const { pid } = await x.it.start();
    expect(x.it.status()).toMatchObject({ pid, text: 'said' });
    expect(x.state.find('x').record).toMatchObject({ pid });
    const { exit, steps } = await x.it.stop();
    expect(exit).toMatchObject({ pid, signal: 'SIGTERM' });
    expect(steps.flatMap(({ to }) => to)).not.toContain(process.pid);
  });
});
