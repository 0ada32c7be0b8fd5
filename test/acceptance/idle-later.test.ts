/** Idle work: once, after the I/O of a round, and never at the cost of the others. */
import { expect } from 'vitest';
import { contract, outside, slow } from './contract.ts';

contract('idle', (test) => {
  test('it runs once, soon, and not at its registration', async (stage) => {
    const { loop, notes, note } = stage;
    const start = loop.now();
    const watcher = loop.watchIdle(() => note('idle'));
    expect(notes).toEqual([]);
    expect(watcher.active).toBe(true);
    await stage.noted(1);
    expect(loop.now() - start).toBeLessThan(1000 * slow);
    expect(watcher.active).toBe(false);
    await stage.quiet();
    expect(notes).toEqual(['idle']);
  });

  test('in the order of registration', async (stage) => {
    const { loop, note } = stage;
    for (let index = 0; index < 20; index++) loop.watchIdle(() => note(index));
    expect(await stage.noted(20)).toEqual(Array.from({ length: 20 }, (_, index) => index));
  });

  test('registered by I/O it runs after all I/O of the same round, and after due timers', async (stage) => {
    const { loop, notes, note } = stage;
    const pairs = [stage.pair(), stage.pair(), stage.pair()];
    for (const [a] of pairs) {
      loop.watchIo(a, {
        onReadReady: (fd) => {
          stage.read(fd);
          note('io');
          loop.watchIdle(() => note('idle'));
        },
      });
    }
    for (const [, b] of pairs) stage.write(b);
    await stage.noted(6);
    expect(notes).toEqual(['io', 'io', 'io', 'idle', 'idle', 'idle']);
    notes.length = 0;
    loop.watchIdle(() => note('idle'));
    loop.watchTime({ after: 0 }, () => note('timer'));
    stage.write(pairs[0]?.[1] as number);
    loop.unwatchIo(pairs[0]?.[0] as number);
    loop.watchIo(pairs[0]?.[0] as number, {
      onReadReady: (fd) => {
        stage.read(fd);
        note('io');
      },
    });
    expect(await stage.noted(3)).toEqual(['io', 'timer', 'idle']);
  });

  test.blocking('registered by idle work it runs in the next round', async (stage) => {
    const { loop, notes, note } = stage;
    await outside(() => {
      loop.watchIdle(() => {
        note('outer');
        loop.watchIdle(() => note('inner'));
      });
      expect(loop.runOnce(1000)).toBe(1);
      expect(notes).toEqual(['outer']);
      expect(loop.runOnce(1000)).toBe(1);
      expect(notes).toEqual(['outer', 'inner']);
      expect(loop.runOnce(0)).toBe(0);
    });
  });

  test('idle work that begets idle work lets I/O and timers through', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    let rounds = 0;
    const again = () => {
      if (++rounds === 5) note('idle');
      if (notes.length < 4) loop.watchIdle(again);
    };
    loop.watchIdle(again);
    loop.watchTime({ after: 10 }, () => note('timer'));
    setTimeout(() => {
      note('node');
    }, 5);
    loop.watchIo(a, {
      onReadReady: (fd) => {
        stage.read(fd);
        note('io');
        if (stage.mode === 'blocking') note('node'); // Node's own timers rest meanwhile
      },
    });
    stage.write(b);
    await stage.noted(4);
    expect(new Set(notes)).toEqual(new Set(['io', 'timer', 'node', 'idle']));
  });

  test('a stopped one does not run and leaves the loop at rest', async (stage) => {
    const { loop, notes, note } = stage;
    const watcher = loop.watchIdle(() => note('idle'));
    watcher.stop();
    watcher.stop();
    expect(watcher.active).toBe(false);
    expect(await stage.cpuOfQuiet(200)).toBeLessThan(100 * slow);
    expect(notes).toEqual([]);
  });

  test.blocking('runOnce waits its whole time beside an idle watcher that was stopped', async (stage) => {
    const { loop } = stage;
    await outside(() => {
      loop.watchIdle(() => {}).stop();
      const start = loop.now();
      expect(loop.runOnce(40)).toBe(0);
      expect(loop.now() - start).toBeGreaterThanOrEqual(40);
    });
  });

  test('stopped by an earlier one of the same batch it does not run', async (stage) => {
    const { loop, notes, note } = stage;
    loop.watchIdle(() => {
      note('first');
      second.stop();
    });
    const second = loop.watchIdle(() => note('second'));
    loop.watchIdle(() => note('third'));
    await stage.noted(2);
    await stage.quiet();
    expect(notes).toEqual(['first', 'third']);
  });

  test('it does not wait for a timer that is far', async (stage) => {
    const { loop, note } = stage;
    const timer = loop.watchTime({ after: 5000 }, () => note('timer'));
    const start = loop.now();
    loop.watchIdle(() => note('idle'));
    await stage.noted(1);
    expect(stage.notes).toEqual(['idle']);
    expect(loop.now() - start).toBeLessThan(4000);
    timer.stop();
  });
});

contract('later', (test) => {
  test('a callback runs in the next round and can be taken back', async (stage) => {
    const { loop, notes, note } = stage;
    loop.later(() => note('one'));
    loop.later(() => note('two')).stop();
    loop.later(() => note('three'));
    expect(notes).toEqual([]);
    await stage.noted(2);
    await stage.quiet();
    expect(notes).toEqual(['one', 'three']);
  });

  test('without a callback it is a promise', async (stage) => {
    const { loop, note } = stage;
    const promise = loop.later();
    expect(promise).toBeInstanceOf(Promise);
    void promise.then((value) => note(['kept', value]));
    expect(await stage.noted(1)).toEqual([['kept', undefined]]);
  });
});
