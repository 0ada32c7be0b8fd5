/** Around every handler: the async context of its registration, and ticks and microtasks as Node orders them. */
import { AsyncLocalStorage, executionAsyncId, triggerAsyncId } from 'node:async_hooks';
import { expect } from 'vitest';
import { contract, outside } from './contract.ts';

contract('async context', (test) => {
  test('each handler runs in the context of its registration', async (stage) => {
    const { loop, note } = stage;
    const storage = new AsyncLocalStorage<string>();
    const [a, b] = stage.pair();
    const [c, d] = stage.pair();
    const seen = (kind: string) => () => note(`${kind}: ${storage.getStore()}`);
    storage.run('io', () => {
      const watcher = loop.watchIo(a, {
        onReadReady: () => {
          watcher.stop();
          seen('read')();
        },
      });
    });
    storage.run('end', () => loop.watchIo(c, { onHangup: seen('hangup') }));
    storage.run('time', () => loop.watchTime({ after: -1 }, seen('timer')));
    storage.run('wall', () => loop.watchTime({ at: 0 }, seen('wall timer')));
    storage.run('idle', () => loop.watchIdle(seen('idle')));
    storage.run('elsewhere', () => {
      stage.write(b);
      stage.close(d);
    });
    await stage.noted(5);
    expect(new Set(stage.notes)).toEqual(
      new Set(['read: io', 'hangup: end', 'timer: time', 'wall timer: wall', 'idle: idle']),
    );
    expect(storage.getStore()).toBeUndefined();
  });

  test('what a handler starts inherits its context: ticks, microtasks, further watchers', async (stage) => {
    const { loop, note } = stage;
    const storage = new AsyncLocalStorage<number>();
    for (const id of [1, 2]) {
      storage.run(id, () => {
        loop.watchTime({ after: 0 }, () => {
          process.nextTick(() => note(['tick', id, storage.getStore()]));
          void Promise.resolve().then(() => note(['micro', id, storage.getStore()]));
          loop.watchIdle(() => note(['idle', id, storage.getStore()]));
        });
      });
    }
    await stage.noted(6);
    for (const [, id, store] of stage.notes as [string, number, number][]) expect(store).toBe(id);
  });

  test('a callback has an async id of its own', async (stage) => {
    const { loop, note } = stage;
    loop.watchTime({ after: 0 }, () => note([executionAsyncId(), triggerAsyncId()]));
    loop.watchTime({ after: 0 }, () => note([executionAsyncId(), triggerAsyncId()]));
    await stage.noted(2);
    const [[one], [two]] = stage.notes as [[number, number], [number, number]];
    expect(one).toBeGreaterThan(0);
    expect(one).not.toBe(two);
  });

  test('a context that throws does not leak into the next handler', async (stage) => {
    const { loop, note } = stage;
    const storage = new AsyncLocalStorage<string>();
    storage.run('first', () =>
      loop.watchTime({ after: 0 }, () => {
        storage.enterWith('changed within');
        note(storage.getStore());
      }),
    );
    loop.watchTime({ after: 0 }, () => note(storage.getStore()));
    await stage.noted(2);
    expect(stage.notes).toEqual(['changed within', undefined]);
  });
});

contract('ticks and microtasks', (test) => {
  /** Two handlers of one batch, each with a tick, a microtask, and one that begets another. */
  const order = async (stage: Parameters<Parameters<typeof test>[1]>[0]) => {
    const { loop, note } = stage;
    const handler = (name: string) => () => {
      note(name);
      process.nextTick(() => {
        note(`${name} tick`);
        void Promise.resolve().then(() => note(`${name} micro of tick`));
      });
      void Promise.resolve().then(() => {
        note(`${name} micro`);
        process.nextTick(() => note(`${name} tick of micro`));
      });
      queueMicrotask(() => note(`${name} micro 2`));
    };
    await outside(() => {
      const [a, b] = stage.pair();
      const [c, d] = stage.pair();
      for (const [name, fd] of [
        ['A', a],
        ['B', c],
      ] as const) {
        loop.watchIo(fd, {
          onReadReady: () => {
            stage.read(fd);
            handler(name)();
          },
        });
      }
      stage.write(b);
      stage.write(d);
      loop.watchTime({ after: -1 }, handler('T'));
      loop.watchIdle(handler('I'));
    });
    await stage.noted(24);
    return stage.notes;
  };
  const block = (name: string) => [
    name,
    `${name} tick`,
    `${name} micro`,
    `${name} micro 2`,
    `${name} micro of tick`,
    `${name} tick of micro`,
  ];

  test('they run between handlers, in the order of Node', async (stage) => {
    const notes = await order(stage);
    const io = notes[0] === 'A' ? [...block('A'), ...block('B')] : [...block('B'), ...block('A')];
    expect(notes).toEqual([...io, ...block('T'), ...block('I')]);
  });

  test("with drain: 'batch' they run when the batch is done", async (stage) => {
    stage.loop.close();
    const loop = stage.another(undefined, 'batch');
    Object.assign(stage, { loop });
    const notes = await order(stage);
    const handlers = notes.slice(0, 4);
    expect(handlers.slice(2)).toEqual(['T', 'I']);
    expect(new Set(handlers.slice(0, 2))).toEqual(new Set(['A', 'B']));
    // All ticks first, then all microtasks, then what those begot: one queue of Node's, drained once.
    const ticks = notes.slice(4, 8);
    expect(ticks.every((entry) => /^. tick$/.test(entry as string))).toBe(true);
  });

  test.blocking('all is drained when runOnce returns', async ({ loop, notes, note }) => {
    await outside(() => {
      loop.watchTime({ after: 0 }, () => {
        void Promise.resolve()
          .then(() => Promise.resolve())
          .then(() => note('micro'));
        process.nextTick(() => process.nextTick(() => note('tick')));
      });
      expect(loop.runOnce(1000)).toBe(1);
      expect(new Set(notes)).toEqual(new Set(['micro', 'tick']));
    });
  });

  test.blocking("all is drained when runOnce returns, with drain: 'batch' as well", async (stage) => {
    const { notes, note } = stage;
    const loop = stage.another(undefined, 'batch');
    await outside(() => {
      loop.watchTime({ after: 0 }, () => void Promise.resolve().then(() => note('micro')));
      loop.watchTime({ after: 0 }, () => note('second'));
      expect(loop.runOnce(1000)).toBe(2);
      expect(notes).toEqual(['second', 'micro']);
    });
  });

  test('an async handler goes on in the microtasks behind it', async (stage) => {
    const { loop, note } = stage;
    loop.watchTime({ after: 0 }, async () => {
      note('before');
      await undefined;
      note('after');
    });
    loop.watchTime({ after: 0 }, () => note('next'));
    expect(await stage.noted(3)).toEqual(['before', 'after', 'next']);
  });

  test.integrated('immediates and Node timers go on between the turns of a busy loop', async (stage) => {
    const { loop, note } = stage;
    const [a] = stage.pair();
    let rounds = 0;
    loop.watchIo(a, {
      onWriteReady: () => {
        if (rounds++ === 0) note('round');
      },
    });
    setImmediate(() => note('immediate'));
    setTimeout(() => note('timeout'), 5);
    expect(new Set(await stage.noted(3))).toEqual(new Set(['round', 'immediate', 'timeout']));
  });
});
