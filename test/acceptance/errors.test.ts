/** Callbacks that throw: nothing else is lost, and the error surfaces once the batch is done. */
import type { Loop } from 'forkbeard';
import { afterEach, expect } from 'vitest';
import { contract, outside, type Stage } from './contract.ts';

/** What surfaced: thrown from runOnce, or as an uncaught exception. */
let surfaced: unknown[] = [];

afterEach(() => {
  process.setUncaughtExceptionCaptureCallback(null);
  surfaced = [];
});

/** Works on until `condition` holds, and takes down what surfaces meanwhile. */
async function work(stage: Stage, condition: () => boolean): Promise<void> {
  if (stage.mode === 'integrated') {
    process.setUncaughtExceptionCaptureCallback(null);
    process.setUncaughtExceptionCaptureCallback((error) => {
      surfaced.push(error);
      stage.note('surfaced');
    });
    await stage.until(condition);
    return;
  }
  await outside(() => {
    for (let round = 0; round < 100 && !condition(); round++) {
      try {
        stage.loop.runOnce(1000);
      } catch (error) {
        surfaced.push(error);
        stage.notes.push('surfaced');
      }
    }
  });
}

const boom = (name: string) => () => {
  throw new Error(name);
};

const kinds: Record<string, (loop: Loop, stage: Stage, callback: () => void) => void> = {
  'a read handler': (loop, stage, callback) => {
    const [a, b] = stage.pair();
    const watcher = loop.watchIo(a, {
      onReadReady: () => {
        watcher.stop();
        callback();
      },
    });
    stage.write(b);
  },
  'a write handler': (loop, stage, callback) => {
    const [a] = stage.pair();
    const watcher = loop.watchIo(a, {
      onWriteReady: () => {
        watcher.stop();
        callback();
      },
    });
  },
  'a hangup handler': (loop, stage, callback) => {
    const [a, b] = stage.pair();
    loop.watchIo(a, { onHangup: callback });
    stage.close(b);
  },
  'an error handler': (loop, stage, callback) => {
    const [a] = stage.pair();
    loop.watchIo(a, { onReadReady: () => {}, onError: callback });
    const other = loop.watchIo(a, { onWriteReady: () => {}, onError: () => {} });
    stage.close(a);
    other.stop();
  },
  'a timer': (loop, _stage, callback) => {
    loop.watchTime({ after: 0 }, callback);
  },
  'a wall-clock timer': (loop, _stage, callback) => {
    loop.watchTime({ at: Date.now() }, callback);
  },
  'idle work': (loop, _stage, callback) => {
    loop.watchIdle(callback);
  },
  later: (loop, _stage, callback) => {
    loop.later(callback);
  },
};

contract('errors', (test) => {
  for (const [kind, arrange] of Object.entries(kinds)) {
    test(`${kind} that throws surfaces its own error, and the loop goes on`, async (stage) => {
      const { loop, notes } = stage;
      const error = new Error('from the callback');
      arrange(loop, stage, () => {
        throw error;
      });
      await work(stage, () => notes.includes('surfaced'));
      expect(surfaced).toEqual([error]);
      expect(surfaced[0]).toBe(error);
      loop.watchTime({ after: 1 }, () => stage.note('on'));
      await work(stage, () => notes.includes('on'));
      expect(surfaced.length).toBe(1);
    });
  }

  test('the batch is finished first: later descriptors, timers and idle work of the round all run', async (stage) => {
    const { loop, notes, note } = stage;
    const pairs = Array.from({ length: 4 }, () => stage.pair());
    for (const [index, [a]] of pairs.entries()) {
      loop.watchIo(a, {
        onReadReady: (fd) => {
          stage.read(fd);
          note(`io ${index}`);
          if (index === 0) throw new Error('first');
        },
      });
    }
    for (const [, b] of pairs) stage.write(b);
    loop.watchTime({ after: -1 }, () => note('timer'));
    loop.watchIdle(() => note('idle'));
    await work(stage, () => notes.includes('surfaced'));
    expect(notes).toEqual(['io 0', 'io 1', 'io 2', 'io 3', 'timer', 'idle', 'surfaced']);
    expect(surfaced).toEqual([new Error('first')]);
  });

  test('the other handlers of the same event run', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    loop.watchIo(a, {
      onReadReady: () => {
        note('read');
        throw new Error('read');
      },
      onWriteReady: () => {
        note('write');
        loop.unwatchIo(a);
      },
    });
    stage.write(b);
    await work(stage, () => notes.includes('surfaced'));
    expect(notes).toEqual(['read', 'write', 'surfaced']);
  });

  test('several errors of a round become one AggregateError, in order', async (stage) => {
    const { loop, notes } = stage;
    for (const name of ['one', 'two', 'three']) loop.watchTime({ after: -1 }, boom(name));
    await work(stage, () => notes.includes('surfaced'));
    expect(surfaced.length).toBe(1);
    expect(surfaced[0]).toBeInstanceOf(AggregateError);
    expect((surfaced[0] as AggregateError).errors.map((error) => (error as Error).message)).toEqual([
      'one',
      'two',
      'three',
    ]);
  });

  test('what is thrown may be anything', async (stage) => {
    const { loop, notes } = stage;
    for (const thrown of [undefined, null, 0, 'text', Symbol.iterator, Object.create(null)]) {
      const before = surfaced.length;
      const count = notes.length;
      loop.watchTime({ after: 0 }, () => {
        throw thrown;
      });
      await work(stage, () => notes.length > count);
      expect(surfaced.length).toBe(before + 1);
      expect(surfaced[before]).toBe(thrown);
    }
  });

  test('a watcher that throws stays a watcher', async (stage) => {
    const { loop, notes } = stage;
    const [a, b] = stage.pair();
    const watcher = loop.watchIo(a, {
      onReadReady: (fd) => {
        stage.read(fd);
        throw new Error('again');
      },
    });
    for (let time = 1; time <= 3; time++) {
      stage.write(b);
      await work(stage, () => notes.length === time);
    }
    expect(watcher.active).toBe(true);
    expect(surfaced.length).toBe(3);
  });

  test('a handler that throws and stops everything is obeyed', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const [c, d] = stage.pair();
    for (const fd of [a, c]) {
      loop.watchIo(fd, {
        onReadReady: () => {
          note('io');
          loop.unwatchIo(a);
          loop.unwatchIo(c);
          throw new Error('stop');
        },
      });
    }
    stage.write(b);
    stage.write(d);
    await work(stage, () => notes.includes('surfaced'));
    await work(stage, () => true);
    expect(notes).toEqual(['io', 'surfaced']);
  });

  test('an error without onError surfaces as a callback would have thrown it', async (stage) => {
    const { loop, notes } = stage;
    const [a] = stage.pair();
    loop.watchIo(a, { onReadReady: () => {} });
    const other = loop.watchIo(a, { onWriteReady: () => {}, onError: () => {} });
    stage.close(a);
    other.stop();
    await work(stage, () => notes.includes('surfaced'));
    expect(surfaced).toEqual([expect.objectContaining({ code: 'EBADF', fd: a })]);
  });

  test('a tick that throws is an uncaught exception at once, and the ticks behind it run', async (stage) => {
    const { loop, notes, note } = stage;
    process.setUncaughtExceptionCaptureCallback((error) => note(['uncaught', (error as Error).message]));
    loop.watchTime({ after: -1 }, () => {
      process.nextTick(() => {
        throw new Error('tick');
      });
      process.nextTick(() => note('second tick'));
      queueMicrotask(() => {
        throw new Error('micro');
      });
    });
    loop.watchTime({ after: -1 }, () => note('second timer'));
    await stage.until(() => notes.includes('second timer'));
    expect(notes).toEqual([['uncaught', 'tick'], 'second tick', ['uncaught', 'micro'], 'second timer']);
    loop.watchTime({ after: 0 }, () => note('on'));
    await stage.until(() => notes.includes('on'));
  });

  test.blocking('a run survives what its callbacks throw only if it is started again', async (stage) => {
    const { loop } = stage;
    loop.watchTime({ after: 0 }, boom('out of the run'));
    await expect(outside(() => loop.runSync())).rejects.toThrow('out of the run');
    expect(loop.running).toBe(false);
    loop.watchTime({ after: 0 }, () => loop.stop('fine'));
    expect(await outside(() => loop.runSync())).toBe('fine');
  });

  test('an error of an inner round surfaces there, not outside', async (stage) => {
    const { loop, notes, note } = stage;
    loop.watchTime({ after: 0 }, () => {
      loop.watchTime({ after: 0 }, boom('inner'));
      expect(() => loop.runOnce(1000)).toThrow('inner');
      note('caught');
    });
    await work(stage, () => notes.includes('caught'));
    expect(surfaced).toEqual([]);
  });

  test('an inner error does not take the place of an outer one', async (stage) => {
    const { loop, notes, note } = stage;
    loop.watchTime({ after: -1 }, boom('outer'));
    loop.watchTime({ after: -1 }, () => {
      loop.watchTime({ after: -1 }, boom('inner'));
      try {
        loop.runOnce(1000);
      } catch (error) {
        note((error as Error).message);
      }
    });
    await work(stage, () => notes.includes('surfaced'));
    expect(notes).toEqual(['inner', 'surfaced']);
    expect(surfaced).toEqual([new Error('outer')]);
  });
});
