/** Time: never early, in order, snapshots, no wrap, and nobody starves. */
import { sys } from 'forkbeard';
import { expect } from 'vitest';
import { contract, outside, slow } from './contract.ts';

contract('timers', (test) => {
  test('the clock is monotonic, has digits and runs as fast as others', async ({ loop }) => {
    const start = loop.now();
    const wall = performance.now();
    let last = start;
    const digits = new Set<number>();
    for (let reading = 0; reading < 1000; reading++) {
      const now = loop.now();
      expect(now).toBeGreaterThanOrEqual(last);
      digits.add(now % 1);
      last = now;
    }
    expect(digits.size).toBeGreaterThan(10);
    expect(Math.abs(loop.now() - start - (performance.now() - wall))).toBeLessThan(100);
  });

  test('three thousand timers of random length: none is early, each fires once, in order', async (stage) => {
    const { loop } = stage;
    const total = 3000;
    const early: number[] = [];
    const fired: number[] = [];
    let seed = 1;
    const random = () => {
      seed = (seed * 48271) % 0x7fffffff;
      return seed / 0x7fffffff;
    };
    for (let index = 0; index < total; index++) {
      const delay = random() * 100;
      const floor = performance.now() + delay;
      const watcher = loop.watchTime({ after: delay }, () => {
        const now = performance.now();
        if (now < floor || now < watcher.deadline) early.push(Math.min(now - floor, now - watcher.deadline));
        fired.push(watcher.deadline);
        if (fired.length === total) stage.note('all');
      });
      expect(watcher.deadline).toBeGreaterThanOrEqual(floor);
    }
    await stage.noted(1);
    await stage.quiet();
    expect(early).toEqual([]);
    expect(fired.length).toBe(total);
    // Deadlines ascend within what one round took, and rounds follow each other.
    expect(fired).toEqual(fired.toSorted((a, b) => a - b));
  });

  test('one after the other: hundreds of waits end neither early nor late', async (stage) => {
    const { loop } = stage;
    const late: number[] = [];
    const next = (left: number) => {
      if (left === 0) {
        stage.note('done');
        return;
      }
      const watcher = loop.watchTime({ after: (left % 20) / 7 }, () => {
        late.push(loop.now() - watcher.deadline);
        next(left - 1);
      });
    };
    next(400);
    await stage.noted(1);
    expect(Math.min(...late)).toBeGreaterThanOrEqual(0);
    late.sort((a, b) => a - b);
    expect(late[200]).toBeLessThan(5 * slow);
  });

  test.blocking(
    'a timer takes exactly one runOnce, with no early return before it',
    async ({ loop, note, notes }) => {
      await outside(() => {
        for (const delay of [0.3, 1, 10, 10.7, 100]) {
          const start = loop.now();
          loop.watchTime({ after: delay }, () => note(delay));
          expect(loop.runOnce(1000)).toBe(1);
          expect(loop.now() - start).toBeGreaterThanOrEqual(delay);
          expect(notes.at(-1)).toBe(delay);
        }
      });
    },
  );

  test('equal deadlines fire first in, first out; past ones go by their deadline', async (stage) => {
    const { loop, note } = stage;
    const at = Date.now() + 20;
    for (let index = 0; index < 50; index++) loop.watchTime({ at }, () => note(index));
    expect(await stage.noted(50)).toEqual(Array.from({ length: 50 }, (_, index) => index));
  });

  test('zero and negative delays fire in the next round, in the order they were set', async (stage) => {
    const { loop, notes, note } = stage;
    const start = loop.now();
    for (const after of [0, -1, -1e9, -Infinity, 0]) loop.watchTime({ after }, () => note(after));
    expect(notes).toEqual([]);
    await stage.noted(5);
    expect(notes).toEqual([0, -1, -1e9, -Infinity, 0]);
    expect(loop.now() - start).toBeLessThan(200 * slow);
  });

  test('a stopped timer never fires, whoever stops it', async (stage) => {
    const { loop, notes, note } = stage;
    const one = loop.watchTime({ after: 1 }, () => note('one'));
    const two = loop.watchTime({ after: 2 }, () => note('two'));
    one.stop();
    loop.unwatchTime(two);
    loop.unwatchTime(two);
    expect([one.active, two.active]).toEqual([false, false]);
    await stage.quiet();
    expect(notes).toEqual([]);
  });

  test('a timer may stop itself and others of the same snapshot', async (stage) => {
    const { loop, notes, note } = stage;
    const first = loop.watchTime({ after: 1 }, () => {
      note('first');
      loop.unwatchTime(first);
      second.stop();
    });
    const second = loop.watchTime({ after: 1.1 }, () => note('second'));
    loop.watchTime({ after: 1.2 }, () => note('third'));
    const start = performance.now();
    while (performance.now() < start + 5); // all three are due at once
    await stage.noted(2);
    await stage.quiet();
    expect(notes).toEqual(['first', 'third']);
    expect(first.active).toBe(false);
  });

  test('a fired timer is not active, and stopping it then does nothing', async (stage) => {
    const { loop, note } = stage;
    const watcher = loop.watchTime({ after: 0 }, () => note(watcher.active));
    expect(watcher.active).toBe(true);
    expect(await stage.noted(1)).toEqual([false]);
    watcher.stop();
    loop.unwatchTime(watcher);
  });

  test('a timer set again with nothing to wait runs in the next round, after I/O had its turn', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    let left = 20;
    const again = () => {
      note('timer');
      stage.write(b);
      if (--left > 0) loop.watchTime({ after: left % 2 === 0 ? 0 : -5 }, again);
    };
    loop.watchTime({ after: 0 }, again);
    loop.watchIo(a, {
      onReadReady: (fd) => {
        note('io');
        stage.read(fd);
      },
    });
    await stage.noted(40);
    expect(notes).toEqual(Array.from({ length: 40 }, (_, index) => (index % 2 === 0 ? 'timer' : 'io')));
  });

  test('timers fire though descriptors are always ready', async (stage) => {
    const { loop, note } = stage;
    for (let index = 0; index < 20; index++) {
      const [a] = stage.pair();
      loop.watchIo(a, { onWriteReady: () => {} });
    }
    loop.watchTime({ after: 10 }, () => note('timer'));
    expect(await stage.noted(1)).toEqual(['timer']);
  });

  test('what is far away stays away: no wrap at 2^31 ms, none at infinity', async (stage) => {
    const { loop, notes, note } = stage;
    const far = [2 ** 31 - 1, 2 ** 31, 2 ** 31 + 1, 2 ** 32 + 5, 2 ** 53, 1e300, Number.MAX_VALUE, Infinity];
    const watchers = far.flatMap((ms) => [
      loop.watchTime({ after: ms }, () => note(ms)),
      loop.watchTime({ at: ms < 1e13 ? Date.now() + ms : ms }, () => note(ms)),
    ]);
    expect(await stage.cpuOfQuiet(150)).toBeLessThan(100 * slow);
    expect(notes).toEqual([]);
    expect(watchers.every((watcher) => watcher.active)).toBe(true);
    loop.watchTime({ after: 1 }, () => note('near'));
    expect(await stage.noted(1)).toEqual(['near']);
    for (const watcher of watchers) watcher.stop();
  });

  test('a nearer timer wakes a loop that sleeps towards a farther one', async (stage) => {
    const { loop, note } = stage;
    loop.watchTime({ after: 3_600_000 }, () => note('far'));
    const [a, b] = stage.pair();
    loop.watchIo(a, {
      onReadReady: (fd) => {
        stage.read(fd);
        loop.watchTime({ after: 5 }, () => note('near'));
      },
    });
    await stage.quiet();
    stage.write(b);
    expect(await stage.noted(1)).toEqual(['near']);
  });

  test('a timer that is set outside of any callback fires while the loop sleeps', async (stage) => {
    const { loop, note } = stage;
    for (let time = 0; time < 3; time++) {
      const start = loop.now();
      loop.watchTime({ after: 15 }, () => note(loop.now() - start));
      await stage.noted(time + 1);
      expect(stage.notes[time]).toBeGreaterThanOrEqual(15);
    }
  });

  test('a callback that takes long does not make timers set in it early', async (stage) => {
    const { loop, note } = stage;
    loop.watchTime({ after: 0 }, () => {
      const start = loop.now();
      while (loop.now() < start + 20);
      const set = loop.now();
      loop.watchTime({ after: 10 }, () => note(loop.now() - set));
    });
    await stage.noted(1);
    expect(stage.notes[0]).toBeGreaterThanOrEqual(10);
  });

  test('at takes a Date or milliseconds, in the past as well', async (stage) => {
    const { loop, notes, note } = stage;
    const start = Date.now();
    loop.watchTime({ at: new Date(start + 30) }, () => note(['date', Date.now() >= start + 30]));
    loop.watchTime({ at: start + 15.5 }, () => note(['number', Date.now() >= start + 15.5]));
    loop.watchTime({ at: 0 }, () => note(['epoch', true]));
    loop.watchTime({ at: new Date(-1e12) }, () => note(['before it', true]));
    const watcher = loop.watchTime({ at: Date.now() + 1000 }, () => {});
    expect(Math.abs(watcher.deadline - loop.now() - 1000)).toBeLessThan(100 * slow);
    await stage.noted(4);
    expect(notes).toEqual([
      ['before it', true],
      ['epoch', true],
      ['number', true],
      ['date', true],
    ]);
    watcher.stop();
  });

  test('ten thousand timers, half of them stopped again', async (stage) => {
    const { loop } = stage;
    let fired = 0;
    const watchers = Array.from({ length: 10_000 }, (_, index) =>
      loop.watchTime({ after: (index * 7919) % 50 }, () => {
        if (++fired === 5000) stage.note('half');
      }),
    );
    watchers.forEach((watcher, index) => {
      if (index % 2 === 0) watcher.stop();
    });
    await stage.noted(1);
    await stage.quiet();
    expect(fired).toBe(5000);
  });

  test('a signal that somebody else handles cuts no wait short', async (stage) => {
    const { loop, note } = stage;
    const listener = () => {};
    process.on('SIGUSR2', listener);
    try {
      const start = loop.now();
      loop.watchTime({ after: 60 }, () => note(loop.now() - start));
      loop.watchTime({ after: 10 }, () => sys.kill(process.pid, 'SIGUSR2'));
      await stage.noted(1);
      expect(stage.notes[0]).toBeGreaterThanOrEqual(60);
    } finally {
      process.off('SIGUSR2', listener);
    }
  });
});

contract('what watchTime is given', (test) => {
  test('a misspelt time is an error that names the one that was meant', ({ loop }) => {
    const watch = (when: object) => () => loop.watchTime(when as { after: number }, () => {});
    expect(watch({ aftr: 5 })).toThrow(
      expect.objectContaining({
        code: 'ERR_FORKBEARD_UNKNOWN_OPTION',
        message: 'Unknown time "aftr"; did you mean "after"?',
      }),
    );
    expect(watch({ after: 5, every: 5 })).toThrow('Unknown time "every"');
    expect(watch({ after: 5, at: 5 })).toThrow('"after" or "at"');
  });
});

contract('delay', (test) => {
  test.integrated('a promise that is kept after the time, never before', async ({ loop }) => {
    const start = loop.now();
    await loop.delay(12.5);
    expect(loop.now() - start).toBeGreaterThanOrEqual(12.5);
    await loop.delay(0);
    await loop.delay(-1);
  });

  test.integrated('an abort rejects with the reason as cause, and the timer is gone', async ({ loop }) => {
    const abort = new AbortController();
    const waiting = loop.delay(3_600_000, { signal: abort.signal });
    abort.abort('enough');
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError', code: 'ABORT_ERR', cause: 'enough' });
    await expect(loop.delay(1, { signal: abort.signal })).rejects.toMatchObject({
      code: 'ABORT_ERR',
      cause: 'enough',
    });
  });

  test.blocking('a runSync that waits for it ends when it is kept', async (stage) => {
    const { loop } = stage;
    const start = loop.now();
    const result = await outside(() => {
      void loop.delay(10).then(() => loop.stop('kept'));
      return loop.runSync<string>();
    });
    expect(result).toBe('kept');
    expect(loop.now() - start).toBeGreaterThanOrEqual(10);
  });
});
