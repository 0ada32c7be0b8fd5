/** Many at once: more than a batch holds, and a few busy ones among very many idle ones. */
import { expect } from 'vitest';
import { contract } from './contract.ts';

contract('many', (test) => {
  test('two thousand ready at once are all told, and nobody twice before everybody once', async (stage) => {
    const { loop } = stage;
    const told = new Map<number, number>();
    const pairs = Array.from({ length: 2000 }, () => stage.pair());
    let least = 0;
    for (const [a] of pairs) {
      loop.watchIo(a, {
        onReadReady: (fd) => {
          const times = (told.get(fd) ?? 0) + 1;
          told.set(fd, times);
          if (told.size === 2000 && ++least === 3000) {
            for (const [other] of pairs) loop.unwatchIo(other);
            stage.note('done');
          }
        },
      });
    }
    for (const [, b] of pairs) stage.write(b);
    await stage.noted(1);
    const times = [...told.values()];
    expect(times.length).toBe(2000);
    // Level-triggered and never read: told over and over, and evenly while the batch grows to hold them all.
    expect(Math.max(...times) - Math.min(...times)).toBeLessThanOrEqual(4);
  });

  test('two thousand ready at once, each read: every one exactly once', async (stage) => {
    const { loop } = stage;
    const told = new Map<number, number>();
    let total = 0;
    const pairs = Array.from({ length: 2000 }, () => stage.pair());
    for (const [a] of pairs) {
      loop.watchIo(a, {
        onReadReady: (fd) => {
          told.set(fd, (told.get(fd) ?? 0) + 1);
          stage.read(fd);
          if (++total === 2000) stage.note('all');
        },
      });
    }
    for (const [, b] of pairs) stage.write(b);
    await stage.noted(1);
    await stage.quiet();
    expect(total).toBe(2000);
    expect(told.size).toBe(2000);
  });

  test('three thousand watchers of one descriptor are all told, and only those that stay are told again', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const told = new Map<number, number>();
    let heard = 0;
    const watchers = Array.from({ length: 3000 }, (_, index) =>
      loop.watchIo(a, {
        onReadReady: () => {
          told.set(index, (told.get(index) ?? 0) + 1);
          if (index === 2999) stage.read(a);
          if (++heard === 3000 || heard === 4500) note(heard);
        },
      }),
    );
    stage.write(b);
    expect(await stage.noted(1)).toEqual([3000]);
    watchers.forEach((watcher, index) => {
      if (index % 2 === 0) watcher.stop();
    });
    stage.write(b);
    await stage.noted(2);
    await stage.quiet();
    expect(notes).toEqual([3000, 4500]);
    const times = Array.from({ length: 3000 }, (_, index) => told.get(index));
    expect(times).toEqual(times.map((_, index) => (index % 2 === 0 ? 1 : 2)));
  });

  test('the highest descriptors do not starve behind a thousand that are always ready', async (stage) => {
    const { loop, note } = stage;
    for (let index = 0; index < 1000; index++) {
      const [a] = stage.pair();
      loop.watchIo(a, { onWriteReady: () => {} }); // always writable
    }
    const [last, peer] = stage.pair();
    loop.watchIo(last, { onReadReady: (fd) => note(stage.read(fd)) });
    stage.write(peer, 'heard');
    expect(await stage.noted(1)).toEqual(['heard']);
  });

  test('one busy pair among three thousand idle descriptors', async (stage) => {
    const { loop, note } = stage;
    for (let index = 0; index < 1500; index++) {
      for (const fd of stage.pair()) loop.watchIo(fd, { onReadReady: () => note('idle one woke') });
    }
    const [a, b] = stage.pair();
    let rounds = 0;
    loop.watchIo(a, { onReadReady: (fd) => stage.write(fd, stage.read(fd)) });
    loop.watchIo(b, {
      onReadReady: (fd) => {
        stage.read(fd);
        if (++rounds === 200) note('done');
        else stage.write(fd);
      },
    });
    stage.write(b);
    expect(await stage.noted(1)).toEqual(['done']);
  });
});
