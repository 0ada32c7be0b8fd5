/** The end of a loop at every odd moment, and loops beside, inside and after each other. */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { Loop, sys } from 'forkbeard';
import { describe, expect, test as plain } from 'vitest';
import { backends, contract, outside, slow } from './contract.ts';

const run = promisify(execFile);
const path = (name: string) => fileURLToPath(new URL(`fixtures/${name}.mjs`, import.meta.url));
const closed = expect.objectContaining({ code: 'ERR_FORKBEARD_LOOP_CLOSED' });
/** Open descriptors: all of them, or those that are kernel objects and not sockets or files. */
function descriptors(which: 'all' | 'kernel objects'): number {
  const open = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // the one that readdir itself had open
    }
  });
  return open.filter((name) => which === 'all' || name.startsWith('anon_inode:')).length;
}

contract('close', (test) => {
  test('stops every watcher, silences the loop, and may be repeated', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const watchers = [
      loop.watchIo(a, { onReadReady: () => note('read') }),
      loop.watchIo(b, { onHangup: () => note('hangup') }),
      loop.watchTime({ after: 0 }, () => note('timer')),
      loop.watchTime({ at: Date.now() }, () => note('wall')),
      loop.watchIdle(() => note('idle')),
    ];
    stage.write(b);
    loop.close();
    loop.close();
    expect(watchers.map((watcher) => watcher.active)).toEqual([false, false, false, false, false]);
    for (const watcher of watchers) {
      watcher.stop();
      watcher.ref();
      watcher.unref();
      watcher.hasRef();
      watcher[Symbol.dispose]();
    }
    watchers[0]?.active;
    (watchers[0] as ReturnType<Loop['watchIo']>).rearm();
    expect(loop.fd).toBe(-1);
    const other = stage.another();
    Object.assign(stage, { loop: other });
    await stage.quiet();
    expect(notes).toEqual([]);
  });

  test('a closed loop refuses work, each call in its own way', async ({ loop }) => {
    const [a, b] = sys.socketpair();
    const running = stageRun(loop);
    const waiting = loop.delay(100_000);
    const later = loop.later();
    loop.close();
    await expect(running).rejects.toEqual(closed);
    await expect(waiting).rejects.toEqual(closed);
    await expect(later).rejects.toEqual(closed);
    for (const call of [
      () => loop.watchIo(a, { onReadReady: () => {} }),
      () => loop.watchTime({ after: 1 }, () => {}),
      () => loop.watchTime({ at: 1 }, () => {}),
      () => loop.watchIdle(() => {}),
      () => loop.later(() => {}),
      () => loop.watchSignal('SIGUSR2', () => {}),
      () => loop.watchProcess(process.pid, () => {}),
      () => loop.runOnce(0),
      () => loop.runSync(),
      () => loop.postFork(),
    ]) {
      expect(call).toThrowError(closed);
    }
    await expect(loop.run()).rejects.toEqual(closed);
    await expect(loop.later()).rejects.toEqual(closed);
    await expect(loop.delay(1)).rejects.toEqual(closed);
    loop.stop();
    loop.unwatchIo(a);
    expect(loop.running).toBe(false);
    expect(loop.now()).toBeGreaterThan(0);
    sys.close(a);
    sys.close(b);
  });

  const moments: Record<
    string,
    (stage: Parameters<Parameters<typeof test>[1]>[0], close: () => void) => void
  > = {
    'a read handler': (stage, close) => {
      const [a, b] = stage.pair();
      stage.loop.watchIo(a, { onReadReady: close, onWriteReady: () => stage.note('write after close') });
      stage.write(b);
    },
    'a hangup handler': (stage, close) => {
      const [a, b] = stage.pair();
      stage.loop.watchIo(a, { onHangup: close });
      stage.close(b);
    },
    'an error handler': (stage, close) => {
      const [a] = stage.pair();
      stage.loop.watchIo(a, { onReadReady: () => {}, onError: close });
      const other = stage.loop.watchIo(a, { onWriteReady: () => {}, onError: () => {} });
      stage.close(a);
      other.stop();
    },
    'a timer': (stage, close) => {
      stage.loop.watchTime({ after: 0 }, close);
    },
    'idle work': (stage, close) => {
      stage.loop.watchIdle(close);
    },
    'a tick': (stage, close) => {
      stage.loop.watchTime({ after: 0 }, () => process.nextTick(close));
    },
    'a microtask': (stage, close) => {
      stage.loop.watchTime({ after: 0 }, () => queueMicrotask(close));
    },
    'a round inside of a round': (stage, close) => {
      const { loop } = stage;
      loop.watchTime({ after: 0 }, () => {
        loop.watchTime({ after: 0 }, close);
        while (stage.notes.length === 0) loop.runOnce(1000);
        loop.close();
      });
    },
    'a handler that throws': (stage, close) => {
      stage.loop.watchTime({ after: 0 }, () => {
        try {
          close();
        } finally {
          stage.note('thrown');
        }
      });
    },
  };
  for (const [moment, arrange] of Object.entries(moments)) {
    test(`from ${moment}, while others of every kind are due: none of them runs`, async (stage) => {
      const { loop, notes, note } = stage;
      let over = false;
      const late = (name: string) => () => {
        if (over) note(name);
      };
      const pairs = Array.from({ length: 5 }, () => stage.pair());
      arrange(stage, () => {
        over = true;
        loop.close();
        loop.close();
        note('closed');
      });
      for (const [c, d] of pairs) {
        loop.watchIo(c, { onReadReady: late('read'), onWriteReady: late('write'), onHangup: late('hangup') });
        stage.write(d);
      }
      loop.watchTime({ after: 0 }, late('timer'));
      loop.watchTime({ at: 0 }, late('wall timer'));
      loop.watchIdle(late('idle'));
      if (stage.mode === 'blocking') await outside(() => loop.runOnce(1000));
      else await stage.until(() => notes.includes('closed'));
      expect(notes.filter((entry) => entry !== 'thrown')).toEqual(['closed']);
      Object.assign(stage, { loop: stage.another() });
      await stage.quiet();
      expect(notes.filter((entry) => entry !== 'thrown')).toEqual(['closed']);
    });
  }

  test('ends a blocking run with an error, and runs further out as well', async (stage) => {
    const { loop, note } = stage;
    loop.watchTime({ after: 1 }, () => {
      loop.watchTime({ after: 1 }, () => loop.close());
      expect(() => loop.runSync()).toThrowError(closed);
      note('inner');
    });
    await expect(outside(() => loop.runSync())).rejects.toEqual(closed);
    expect(stage.notes).toEqual(['inner']);
  });

  test('a loop that was stopped and closed at once returns its result', async (stage) => {
    const { loop } = stage;
    loop.watchTime({ after: 1 }, () => {
      loop.stop('result');
      loop.close();
    });
    if (stage.mode === 'blocking') expect(await outside(() => loop.runSync())).toBe('result');
    else expect(await loop.run()).toBe('result');
  });

  test('from a handler of another loop, while this one waits for it', async (stage) => {
    const { loop, note } = stage;
    const other = stage.another();
    loop.watchTime({ after: 1 }, () => {
      other.watchTime({ after: 1 }, () => {
        loop.close();
        note('closed');
      });
      other.runOnce(1000);
      note('back');
    });
    if (stage.mode === 'blocking') await outside(() => loop.runOnce(1000));
    else await stage.noted(2);
    expect(stage.notes).toEqual(['closed', 'back']);
  });

  test('`using` closes at the end of the block', ({ loop: { backend } }) => {
    let inside: Loop;
    {
      using loop = new Loop({ backend });
      inside = loop;
      loop.watchTime({ after: 1 }, () => {});
    }
    expect(() => inside.runOnce(0)).toThrowError(closed);
  });

  test('every descriptor is given back, however the loop was used', async (stage) => {
    if (!existsSync('/proc/self/fd')) return;
    const { backend } = stage.loop;
    const [a, b] = stage.pair();
    const cycle = async (use: boolean) => {
      const loop = new Loop({ backend });
      if (use) {
        loop.watchIo(a, { onReadReady: () => {} });
        loop.watchTime({ after: 1 }, () => {});
        loop.watchTime({ at: Date.now() + 1 }, () => {});
        if (stage.mode === 'blocking') await outside(() => loop.runOnce(5));
        else await loop.delay(2);
      }
      loop.close();
    };
    await cycle(true);
    await new Promise(setImmediate);
    const before = descriptors('all');
    for (let time = 0; time < 20; time++) await cycle(time % 2 === 0);
    await new Promise(setImmediate);
    await new Promise(setImmediate);
    expect(descriptors('all')).toBe(before);
    stage.write(b);
  });
});

contract('several loops', (test) => {
  test('each has its own watchers on the same descriptor', async (stage) => {
    const { loop, notes, note } = stage;
    const other = stage.another();
    const [a, b] = stage.pair();
    const watchers = [loop, other].map((each, index) =>
      each.watchIo(a, {
        onReadReady: () => {
          note(index);
          watchers[index]?.stop();
        },
      }),
    );
    stage.write(b);
    await stage.until(() => notes.length === 2, [loop, other]);
    expect(notes.toSorted()).toEqual([0, 1]);
  });

  test('closing one leaves the other alone', async (stage) => {
    const { loop, note } = stage;
    const [a, b] = stage.pair();
    const other = stage.another();
    other.watchIo(a, { onReadReady: () => note('other') });
    loop.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)) });
    other.close();
    stage.write(b, 'mine');
    expect(await stage.noted(1)).toEqual(['mine']);
  });

  test('a loop can watch the kernel object of another', async (stage) => {
    const { loop, notes, note } = stage;
    const inner = stage.another();
    if (inner.fd < 0) return;
    const [a, b] = stage.pair();
    inner.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)) });
    const outer = loop.watchIo(inner.fd, { onReadReady: () => void inner.runOnce(0) });
    stage.write(b, 'nested');
    expect(await stage.noted(1)).toEqual(['nested']);
    await stage.quiet();
    expect(notes).toEqual(['nested']);
    outer.stop();
  });

  test('a loop that would watch itself is refused', ({ loop }) => {
    if (loop.fd < 0) return;
    expect(() => loop.watchIo(loop.fd, { onReadReady: () => {} })).toThrowError(
      expect.objectContaining({ code: expect.stringMatching(/^(EINVAL|ELOOP)$/) }),
    );
  });

  test('a hundred of them at once', async (stage) => {
    const { notes, note } = stage;
    const loops = [stage.loop, ...Array.from({ length: 99 }, () => stage.another())];
    for (const [index, loop] of loops.entries()) loop.watchTime({ after: index % 7 }, () => note(index));
    await stage.until(() => notes.length === 100, loops);
    expect(new Set(notes).size).toBe(100);
  });
});

describe.each(backends)('in a Worker (%s)', (backend) => {
  const start = (mode: string) => new Worker(path('worker'), { workerData: { backend, mode } });
  const message = (worker: Worker) =>
    new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
  const exited = (worker: Worker) => new Promise((resolve) => worker.once('exit', resolve));

  plain.each(['integrated', 'blocking', 'current'])(
    'it works, and the Worker ends by itself (%s)',
    async (mode) => {
      const worker = start(mode);
      const end = exited(worker);
      expect(await message(worker)).toBe('done');
      expect(await end).toBe(0);
    },
  );

  plain.each([
    'idle with watchers',
    'in the middle of a batch',
    'busy for ever',
    'blocked in runSync',
    'blocked in runOnce',
    'nested',
    'closing',
    'many loops',
  ])('it can be terminated: %s', { timeout: 30_000 * slow }, async (mode) => {
    for (let round = 0; round < 3; round++) {
      const worker = start(mode);
      expect(await message(worker)).toBe('ready');
      expect(await worker.terminate()).toBe(1);
    }
  });

  plain('it leaves no kernel object behind, however it ends', { timeout: 60_000 * slow }, async () => {
    if (!existsSync('/proc/self/fd')) return;
    const once = async () => {
      for (const mode of ['integrated', 'idle with watchers', 'in the middle of a batch', 'many loops']) {
        const worker = start(mode);
        const end = exited(worker);
        await message(worker);
        if (mode !== 'integrated') await worker.terminate();
        await end;
      }
    };
    await once();
    const before = descriptors('kernel objects');
    for (let round = 0; round < 3; round++) await once();
    expect(descriptors('kernel objects')).toBe(before);
  });

  plain('two Workers and the main thread have loops at the same time', async () => {
    const workers = [start('integrated'), start('blocking')];
    using loop = new Loop({ backend });
    const results = await Promise.all([...workers.map(message), loop.delay(5).then(() => 'main')]);
    expect(results).toEqual(['done', 'done', 'main']);
    await Promise.all(workers.map((worker) => worker.terminate()));
  });
});

describe.each(backends)('the end of the process (%s)', (backend) => {
  const cases: [name: string, code: number | string, said: unknown][] = [
    ['exit in a read handler', 7, ['read', 'exit']],
    ['exit in a timer', 7, ['exit']],
    ['exit in idle work', 7, ['exit']],
    ['exit in a blocking run', 7, ['exit']],
    ['exit in a nested round', 7, ['exit']],
    ['exit in a tick of a handler', 7, ['exit']],
    ['throw in a handler', 1, ['exit']],
    ['throw in a blocking run', 1, ['exit']],
    ['throw in a tick of a handler', 1, ['exit']],
    ['close in an exit listener', 0, ['exit', 'closed']],
    ['watch in an exit listener', 0, ['exit', 'watched']],
    ['run in an exit listener', 0, ['exit', 'ran 1']],
    ['leave everything open', 0, ['exit']],
    ['rejection in a handler', 1, ['exit']],
    ['killed while it waits', 'SIGKILL', null],
  ];
  plain.each(cases)('%s', async (name, code, said) => {
    const child = run(process.execPath, [path('process-end'), backend, name], { timeout: 15_000 * slow });
    const result = await child.then(
      ({ stdout }) => ({ stdout, end: 0 }),
      (error) => ({ stdout: error.stdout as string, end: (error.signal ?? error.code) as number | string }),
    );
    expect(result.end).toBe(code);
    if (said !== null) expect(JSON.parse(result.stdout)).toEqual(said);
  });
});

function stageRun(loop: Loop): Promise<unknown> {
  const promise = loop.run();
  promise.catch(() => {});
  return promise;
}
