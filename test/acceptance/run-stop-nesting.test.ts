/** Runs: how they begin, what they return, how they end, and rounds within rounds. */
import { Loop } from 'forkbeard';
import { expect } from 'vitest';
import { contract, outside, slow } from './contract.ts';

const code = (name: string) => expect.objectContaining({ code: `ERR_FORKBEARD_${name}` });

contract('runOnce', (test) => {
  test.blocking('with nothing to do it takes as long as it may, no longer, no shorter', async ({ loop }) => {
    await outside(() => {
      let start = loop.now();
      expect(loop.runOnce(0)).toBe(0);
      expect(loop.now() - start).toBeLessThan(50 * slow);
      for (const timeout of [1, 20.5, 100]) {
        start = loop.now();
        expect(loop.runOnce(timeout)).toBe(0);
        const taken = loop.now() - start;
        expect(taken).toBeGreaterThanOrEqual(timeout);
        expect(taken).toBeLessThan(timeout + 500 * slow);
      }
    });
  });

  test.blocking('it counts the callbacks of one pass', async (stage) => {
    const { loop } = stage;
    await outside(() => {
      const pairs = [stage.pair(), stage.pair()];
      for (const [a, b] of pairs) {
        loop.watchIo(a, {
          onReadReady: (fd) => stage.read(fd),
          onWriteReady: () => loop.unwatchIo(a, { write: true }),
        });
        stage.write(b);
      }
      loop.watchIdle(() => {});
      loop.watchTime({ after: -1 }, () => {});
      expect(loop.runOnce(1000)).toBe(6);
      expect(loop.runOnce(0)).toBe(0);
    });
  });

  test.blocking('an event ends the wait long before its time', async (stage) => {
    const { loop } = stage;
    await outside(() => {
      const [a, b] = stage.pair();
      loop.watchIo(a, { onReadReady: (fd) => stage.read(fd) });
      stage.write(b);
      const start = loop.now();
      expect(loop.runOnce(60_000)).toBe(1);
      expect(loop.now() - start).toBeLessThan(5000);
      loop.watchTime({ after: 10 }, () => {});
      expect(loop.runOnce()).toBe(1);
    });
  });

  test.blocking(
    'an alarm that rings for a timer which was stopped does not end the wait',
    async ({ loop }) => {
      await outside(() => {
        loop.watchTime({ after: 15 }, () => {}).stop(); // the alarm of integrated mode is set
        const start = loop.now();
        expect(loop.runOnce(60)).toBe(0);
        expect(loop.now() - start).toBeGreaterThanOrEqual(60);
      });
    },
  );

  test.blocking('refuses what is no time', async ({ loop }) => {
    for (const timeout of [-1, Number.NaN, -Infinity]) {
      expect(() => loop.runOnce(timeout)).toThrowError(code('OUT_OF_RANGE'));
    }
    for (const timeout of ['1', null, {}, true, 1n]) {
      expect(() => loop.runOnce(timeout as number)).toThrowError(code('INVALID_ARG_TYPE'));
    }
  });
});

contract('run and stop', (test) => {
  test('a run ends with what stop is given, after the batch', async (stage) => {
    const { loop, notes, note } = stage;
    const start = async () => {
      if (stage.mode === 'blocking') return outside(() => loop.runSync<unknown>());
      return loop.run<unknown>();
    };
    const [a, b] = stage.pair();
    const [c, d] = stage.pair();
    for (const fd of [a, c]) {
      loop.watchIo(fd, {
        onReadReady: () => {
          stage.read(fd);
          note('io');
          loop.stop({ the: 'result' });
        },
      });
    }
    stage.write(b);
    stage.write(d);
    expect(await start()).toEqual({ the: 'result' });
    expect(notes).toEqual(['io', 'io']);
    expect(loop.running).toBe(false);
  });

  test('a run can be followed by another', async (stage) => {
    const { loop } = stage;
    for (let time = 0; time < 3; time++) {
      loop.watchTime({ after: 1 }, () => loop.stop(time));
      const result =
        stage.mode === 'blocking' ? await outside(() => loop.runSync<number>()) : await loop.run<number>();
      expect(result).toBe(time);
    }
    loop.watchTime({ after: 1 }, () => loop.stop());
    expect(
      stage.mode === 'blocking' ? await outside(() => loop.runSync()) : await loop.run(),
    ).toBeUndefined();
  });

  test('running says whether a run is under way', async (stage) => {
    const { loop, note } = stage;
    expect(loop.running).toBe(false);
    loop.watchTime({ after: 1 }, () => {
      note(loop.running);
      loop.stop();
      note(loop.running);
    });
    if (stage.mode === 'blocking') await outside(() => loop.runSync());
    else {
      const run = loop.run();
      expect(loop.running).toBe(true);
      await run;
    }
    expect(stage.notes).toEqual([true, false]);
  });

  test('stop without a run does nothing, also many times', async (stage) => {
    const { loop } = stage;
    for (let time = 0; time < 8; time++) loop.stop('nobody');
    loop.watchTime({ after: 1 }, () => stage.note('works'));
    expect(await stage.noted(1)).toEqual(['works']);
  });

  test('runs nest: the latest ends first', async (stage) => {
    const { loop, note } = stage;
    if (stage.mode === 'blocking') {
      loop.watchTime({ after: 1 }, () => {
        loop.watchTime({ after: 1 }, () => loop.stop('inner'));
        const inner = loop.runSync<string>();
        note(`${inner} ended, running: ${loop.running}`);
        loop.stop([inner, 'outer']);
      });
      expect(await outside(() => loop.runSync<string[]>())).toEqual(['inner', 'outer']);
      expect(stage.notes).toEqual(['inner ended, running: true']);
      return;
    }
    const outer = loop.run<string>();
    const inner = loop.run<string>();
    void outer.then(note);
    void inner.then(note);
    loop.watchTime({ after: 1 }, () => loop.stop('first stop'));
    expect(await stage.noted(1)).toEqual(['first stop']);
    expect(loop.running).toBe(true);
    loop.watchTime({ after: 1 }, () => loop.stop('second stop'));
    expect(await stage.noted(2)).toEqual(['first stop', 'second stop']);
    expect(await inner).toBe('first stop');
    expect(await outer).toBe('second stop');
  });

  test('a hundred runs within runs', async (stage) => {
    const { loop } = stage;
    let depth = 0;
    const deeper = (): number => {
      if (++depth < 100) loop.watchTime({ after: 0 }, () => loop.stop(deeper() + 1));
      else loop.watchTime({ after: 0 }, () => loop.stop(1));
      return loop.runSync<number>();
    };
    expect(await outside(deeper)).toBe(100);
    expect(loop.running).toBe(false);
  });

  test('a blocking run within an integrated one ends only itself', async (stage) => {
    const { loop, note } = stage;
    const outer = loop.run<string>();
    void outer.then(note);
    const inner = await outside(() => {
      loop.watchTime({ after: 1 }, () => loop.stop('inner'));
      return loop.runSync<string>();
    });
    expect(inner).toBe('inner');
    expect(loop.running).toBe(true);
    loop.stop('outer');
    expect(await outer).toBe('outer');
  });

  test('stopping an outer run from within an inner one ends the inner first', async (stage) => {
    const { loop } = stage;
    const result = await outside(() => {
      loop.watchTime({ after: 0 }, () => {
        loop.watchTime({ after: 0 }, () => {
          loop.stop('one');
          loop.stop('two');
        });
        stage.note(loop.runSync());
      });
      return loop.runSync();
    });
    expect(stage.notes).toEqual(['one']);
    expect(result).toBe('two');
  });

  test('loops run apart: one waits inside a callback of another', async (stage) => {
    const { loop, note } = stage;
    const other = stage.another();
    other.watchTime({ after: 5 }, () => other.stop('other'));
    loop.watchTime({ after: 1 }, () => {
      note(other.runSync());
      note('one');
    });
    expect(await stage.noted(2)).toEqual(['other', 'one']);
  });
});

contract('rounds within rounds', (test) => {
  test('events that were fetched already are told by the inner round, each once', async (stage) => {
    const { loop, notes, note } = stage;
    const pairs = Array.from({ length: 5 }, () => stage.pair());
    let nested = false;
    for (const [index, [a]] of pairs.entries()) {
      loop.watchIo(a, {
        onReadReady: (fd) => {
          stage.read(fd);
          note(index);
          if (nested) return;
          nested = true;
          while (notes.length < 5) loop.runOnce(1000);
          note('back');
        },
      });
    }
    for (const [, b] of pairs) stage.write(b);
    await stage.noted(6);
    await stage.quiet();
    expect(notes.length).toBe(6);
    expect(new Set(notes.slice(0, 5))).toEqual(new Set([0, 1, 2, 3, 4]));
    expect(notes[5]).toBe('back');
  });

  test('due timers and idle work that wait in an outer round are run by the inner one, each once', async (stage) => {
    const { loop, notes, note } = stage;
    loop.watchTime({ after: 0 }, () => {
      note('timer 1');
      while (!notes.includes('timer 2')) loop.runOnce(1000);
      note('timer 1 ends');
    });
    loop.watchTime({ after: 0 }, () => note('timer 2'));
    await stage.noted(3);
    expect(notes).toEqual(['timer 1', 'timer 2', 'timer 1 ends']);
    notes.length = 0;
    loop.watchIdle(() => {
      note('idle 1');
      while (!notes.includes('idle 2')) loop.runOnce(1000);
      note('idle 1 ends');
    });
    loop.watchIdle(() => note('idle 2'));
    await stage.noted(3);
    await stage.quiet();
    expect(notes).toEqual(['idle 1', 'idle 2', 'idle 1 ends']);
  });

  test('the other direction of an edge survives a round inside the first', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    let inside = false;
    const watcher = loop.watchIo(
      a,
      {
        onReadReady: (fd) => {
          stage.read(fd);
          note('read');
          if (inside) return;
          inside = true;
          stage.write(b);
          loop.runOnce(20);
          note('back');
        },
        onWriteReady: () => note('write'),
      },
      { edge: true },
    );
    stage.write(b);
    // Read and write of the first event come together, whatever else does.
    await stage.until(() => notes.includes('write') && notes.includes('back'));
    expect(notes[0]).toBe('read');
    watcher.stop();
  });

  test('a handler that starts the round which calls it gets an error in the end, and the loop goes on', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const errors: unknown[] = [];
    let deep = 0;
    loop.watchIo(a, {
      onReadReady: () => {
        if (notes.length > 0) return;
        deep++;
        try {
          loop.runOnce(0);
        } catch (error) {
          errors.push(error);
          stage.read(a);
        }
        deep--;
        if (deep === 0) note('back');
      },
    });
    stage.write(b);
    await stage.noted(1);
    expect(errors).toEqual([code('NESTED_TOO_DEEP')]);
    loop.watchTime({ after: 1 }, () => note('timer'));
    await stage.noted(2);
  });

  test('edges that were fetched already survive a round inside the first of them', async (stage) => {
    const { loop, notes, note } = stage;
    const pairs = Array.from({ length: 5 }, () => stage.pair());
    for (const [index, [a]] of pairs.entries()) {
      loop.watchIo(
        a,
        {
          onReadReady: (fd) => {
            stage.read(fd);
            note(index);
            if (notes.length === 1) loop.runOnce(0);
          },
        },
        { edge: true },
      );
    }
    for (const [, b] of pairs) stage.write(b);
    await stage.noted(5);
    await stage.quiet();
    expect(notes.toSorted()).toEqual([0, 1, 2, 3, 4]);
  });

  test('a batch that grows in an inner round does not disturb the outer one', async (stage) => {
    const { loop } = stage;
    const told = new Map<number, number>();
    const pairs = Array.from({ length: 700 }, () => stage.pair());
    let nested = 0;
    for (const [a] of pairs) {
      loop.watchIo(a, {
        onReadReady: (fd) => {
          stage.read(fd);
          told.set(fd, (told.get(fd) ?? 0) + 1);
          if (told.size % 100 === 50 && nested < 6) {
            nested++;
            loop.runOnce(0);
          }
          if (told.size === 700) stage.note('all');
        },
      });
    }
    for (const [, b] of pairs) stage.write(b);
    await stage.noted(1);
    await stage.quiet();
    expect(Math.max(...told.values())).toBe(1);
  });
});

contract('current', (test) => {
  test('there is one current loop, and new ones never become it', async () => {
    const current = Loop.current();
    expect(Loop.current()).toBe(current);
    expect(
      new Set([
        current.id,
        ...Array.from({ length: 3 }, () => {
          using loop = new Loop();
          expect(Loop.current()).toBe(current);
          return loop.id;
        }),
      ]).size,
    ).toBe(4);
    current.close();
    const next = Loop.current();
    expect(next).not.toBe(current);
    expect(Loop.current()).toBe(next);
    next.close();
  });
});
