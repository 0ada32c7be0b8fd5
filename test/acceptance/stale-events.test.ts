/** A batch was fetched, and then the world changed: stops, closes and numbers that mean something else by now. */
import { sys } from 'forkbeard';
import { expect } from 'vitest';
import { contract, slow } from './contract.ts';

contract('a descriptor that was closed elsewhere', (test) => {
  test('who watches it anew is refused, and those who watched it before are told why', async (stage) => {
    const { loop, notes, note } = stage;
    const [a] = stage.pair();
    const told = (name: string) => ({
      onReadReady: () => note(`${name}: ready`),
      onError: (error: Error, fd: number) => note([name, (error as NodeJS.ErrnoException).code, fd]),
    });
    const first = loop.watchIo(a, told('first'));
    const second = loop.watchIo(a, told('second'));
    stage.close(a);
    expect(() => loop.watchIo(a, told('third'))).toThrow(expect.objectContaining({ code: 'EBADF', fd: a }));
    await stage.noted(2);
    await stage.quiet();
    expect(notes).toEqual([
      ['first', 'EBADF', a],
      ['second', 'EBADF', a],
    ]);
    expect([first.active, second.active]).toEqual([false, false]);
  });
});

contract('stale events', (test) => {
  test('a watcher that stops itself gets nothing more of its own event', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const watcher = loop.watchIo(a, {
      onReadReady: () => {
        note('read');
        watcher.stop();
      },
      onWriteReady: () => {
        note('write');
        watcher.stop();
      },
      onHangup: () => note('hangup'),
    });
    stage.close(b);
    await stage.noted(1);
    await stage.quiet();
    expect(notes).toEqual(['read']);
  });

  test('a watcher that is stopped by another of the same descriptor gets nothing more', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const stopAll = (name: string) => () => {
      note(name);
      for (const watcher of watchers) watcher.stop();
    };
    const watchers = ['one', 'two', 'three'].map((name) => loop.watchIo(a, { onReadReady: stopAll(name) }));
    stage.write(b);
    await stage.noted(1);
    await stage.quiet();
    expect(notes).toEqual(['one']);
  });

  test('a watcher that is stopped within the batch gets no event of it, on whichever descriptor', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const stopBoth = () => {
      note('write');
      loop.unwatchIo(a);
      second.stop();
    };
    loop.watchIo(a, { onWriteReady: stopBoth });
    const second = loop.watchIo(b, { onWriteReady: stopBoth });
    await stage.noted(1);
    await stage.quiet();
    expect(notes).toEqual(['write']);
  });

  test('two thousand five hundred are stopped by the first of them', async (stage) => {
    const { loop, notes, note } = stage;
    const watchers = Array.from({ length: 1250 }, () => stage.pair())
      .flat()
      .map((fd) =>
        loop.watchIo(fd, {
          onWriteReady: () => {
            note(fd);
            for (const watcher of watchers) watcher.stop();
          },
        }),
      );
    await stage.noted(1);
    await stage.quiet();
    expect(notes.length).toBe(1);
    expect(watchers.some((watcher) => watcher.active)).toBe(false);
  });

  test('a number that is closed and used again within the batch brings its new watcher no old event', async (stage) => {
    const { loop, notes, note } = stage;
    const peers = [stage.pair(), stage.pair()];
    const [[a, aPeer], [b, bPeer]] = peers as [[number, number], [number, number]];
    let swapped = -1;
    const swap = (other: number) => (fd: number) => {
      note(`old ${fd === a ? 'a' : 'b'}`);
      stage.read(fd);
      // `other` is in the same batch. Its number goes to a socket that has nothing to read.
      loop.unwatchIo(other);
      stage.close(other);
      const [fresh, freshPeer] = stage.pair();
      swapped = fresh === other ? freshPeer : fresh;
      expect([fresh, freshPeer]).toContain(other);
      loop.watchIo(other, { onReadReady: () => note(`new ${stage.read(other)}`) });
    };
    loop.watchIo(a, { onReadReady: swap(b) });
    loop.watchIo(b, { onReadReady: swap(a) });
    stage.write(aPeer);
    stage.write(bPeer);
    await stage.noted(1);
    await stage.quiet();
    expect(notes.length).toBe(1);
    stage.write(swapped, 'data');
    await stage.noted(2);
    expect(notes[1]).toBe('new data');
  });

  test('a number that is closed without a word and used again does the same', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, aPeer] = stage.pair();
    const [b, bPeer] = stage.pair();
    let fresh: [number, number] = [-1, -1];
    const watchers = new Map<number, { stop(): void }>();
    const handler = (other: number) => (fd: number) => {
      note('old');
      stage.read(fd);
      stage.close(other);
      fresh = stage.pair();
      expect(fresh).toContain(other);
      // The old watcher was never stopped; this is what the user does next.
      watchers.get(other)?.stop();
      loop.watchIo(other, { onReadReady: () => note(`new ${stage.read(other)}`) });
    };
    watchers.set(a, loop.watchIo(a, { onReadReady: handler(b) }));
    watchers.set(b, loop.watchIo(b, { onReadReady: handler(a) }));
    stage.write(aPeer);
    stage.write(bPeer);
    await stage.noted(1);
    await stage.quiet();
    expect(notes).toEqual(['old']);
    const other = fresh[0] === a || fresh[0] === b ? fresh[1] : fresh[0];
    stage.write(other, 'data');
    await stage.noted(2);
    expect(notes[1]).toBe('new data');
  });

  test('stopping and watching again within the batch hears the new state, not the fetched one', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, aPeer] = stage.pair();
    const [b, bPeer] = stage.pair();
    const renew = (other: number) => (fd: number) => {
      note('first');
      loop.unwatchIo(other);
      stage.read(fd);
      stage.read(other);
      loop.watchIo(other, { onReadReady: () => note(`again ${stage.read(other)}`) });
    };
    loop.watchIo(a, { onReadReady: renew(b) });
    loop.watchIo(b, { onReadReady: renew(a) });
    stage.write(aPeer);
    stage.write(bPeer);
    await stage.noted(1);
    await stage.quiet();
    expect(notes).toEqual(['first']);
  });

  test('what is watched from a handler is told in a later round, not lost', async (stage) => {
    const { loop, note } = stage;
    const [a, aPeer] = stage.pair();
    const [b, bPeer] = stage.pair();
    stage.write(bPeer, 'waiting');
    loop.watchIo(a, {
      onReadReady: (fd) => {
        note(stage.read(fd));
        loop.watchIo(b, { onReadReady: (other) => note(stage.read(other)) });
      },
    });
    stage.write(aPeer, 'go');
    expect(await stage.noted(2)).toEqual(['go', 'waiting']);
  });

  test('a timer that was stopped by I/O of the same round does not fire', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const timer = loop.watchTime({ after: 0 }, () => note('timer'));
    loop.watchIo(a, {
      onReadReady: (fd) => {
        note(stage.read(fd));
        timer.stop();
      },
    });
    stage.write(b, 'io');
    await stage.noted(1);
    await stage.quiet();
    expect(notes).toEqual(['io']);
  });
});

contract('descriptors closed behind the loop', (test) => {
  test('one that is closed while watched neither crashes, nor spins, nor stops the others', async (stage) => {
    const { loop, notes, note } = stage;
    const [a] = stage.pair();
    const [b, peer] = stage.pair();
    const watcher = loop.watchIo(a, {
      onReadReady: () => note('read'),
      onHangup: () => note('hangup'),
      onError: (error) => note((error as NodeJS.ErrnoException).code),
    });
    loop.watchIo(b, { onReadReady: (fd) => note(stage.read(fd)) });
    stage.close(a);
    const cpu = await stage.cpuOfQuiet(300);
    expect(cpu).toBeLessThan(Math.max(150, 100 * slow));
    // poll(2) sees it, epoll and kqueue forget it in silence.
    expect([[], ['EBADF']]).toContainEqual(notes);
    notes.length = 0;
    stage.write(peer, 'others');
    expect(await stage.noted(1)).toEqual(['others']);
    watcher.stop();
    expect(watcher.active).toBe(false);
  });

  test('one whose file lives on in a duplicate tells nobody and does not spin', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, peer] = stage.pair();
    stage.own(sys.dup(a));
    const [b, bPeer] = stage.pair();
    loop.watchIo(b, { onReadReady: (fd) => note(stage.read(fd)) });
    const watcher = loop.watchIo(a, { onReadReady: () => note('ghost'), onError: () => note('error') });
    stage.close(a);
    watcher.stop(); // too late for the kernel: the number is not open any more
    stage.write(peer); // the duplicate is readable, and epoll still has it under the old number
    const cpu = await stage.cpuOfQuiet(300);
    expect(cpu).toBeLessThan(Math.max(150, 100 * slow));
    expect(notes).toEqual([]);
    stage.write(bPeer, 'alive');
    expect(await stage.noted(1)).toEqual(['alive']);
  });

  test('one that is still watched, while its file lives on in a duplicate, is told to onError', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, peer] = stage.pair();
    stage.own(sys.dup(a));
    stage.write(peer); // epoll says for ever that the duplicate is readable
    const watcher = loop.watchIo(a, {
      onReadReady: () => {},
      onError: (error) => note((error as NodeJS.ErrnoException).code),
    });
    stage.close(a);
    if (loop.backend === 'kqueue') await stage.quiet();
    else await stage.noted(1);
    expect(notes).toEqual(loop.backend === 'kqueue' ? [] : ['EBADF']);
    expect(watcher.active).toBe(loop.backend === 'kqueue');
    notes.length = 0;
    const cpu = await stage.cpuOfQuiet(300);
    expect(cpu).toBeLessThan(Math.max(150, 100 * slow));
    expect(notes).toEqual([]);
  });

  test('one that is still watched, while its number names something else, does not spin', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, peer] = stage.pair();
    stage.own(sys.dup(a));
    stage.write(peer);
    let told = 0;
    loop.watchIo(a, {
      onReadReady: (fd) => {
        told++;
        if (sys.read(fd, Buffer.alloc(8)) > 0) note('read');
      },
      onError: (error) => note((error as NodeJS.ErrnoException).code),
    });
    stage.close(a);
    const [c, d] = stage.pair();
    expect([c, d]).toContain(a);
    await stage.quiet();
    const before = told;
    await stage.quiet();
    expect(told).toBe(before);
    expect(notes).toEqual([]);
    if (loop.backend === 'kqueue') return;
    stage.write(c === a ? d : c);
    expect(await stage.noted(1)).toEqual(['read']);
  });

  test('the number of a ghost can be watched again for something else', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, peer] = stage.pair();
    stage.own(sys.dup(a));
    loop.watchIo(a, { onReadReady: () => note('ghost') });
    stage.close(a);
    loop.unwatchIo(a);
    stage.write(peer);
    const [c, d] = stage.pair();
    expect([c, d]).toContain(a);
    const other = c === a ? d : c;
    loop.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)) });
    await stage.quiet();
    expect(notes).toEqual([]);
    stage.write(other, 'real');
    expect(await stage.noted(1)).toEqual(['real']);
  });

  test('a number that was closed and opened again can be watched anew while the old watcher stands', async (stage) => {
    const { loop, notes, note } = stage;
    const [a] = stage.pair();
    const old = loop.watchIo(a, { onReadReady: () => note('old'), onError: () => note('error') });
    stage.close(a);
    const [c, d] = stage.pair();
    const other = c === a ? d : c;
    expect([c, d]).toContain(a);
    const fresh = loop.watchIo(a, { onWriteReady: () => note('write') });
    await stage.noted(1);
    expect(notes).toContain('write');
    fresh.stop();
    notes.length = 0;
    old.stop();
    loop.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)) });
    stage.write(other, 'after');
    await stage.noted(1);
    expect(notes).toEqual(['after']);
  });

  test('a change of interest in a closed one reaches onError, and only that watcher', async (stage) => {
    const { loop, notes, note } = stage;
    const [a] = stage.pair();
    const [b, peer] = stage.pair();
    const first = loop.watchIo(a, {
      onReadReady: () => note('read'),
      onError: (error, fd) => note([(error as NodeJS.ErrnoException).code, fd]),
    });
    const second = loop.watchIo(a, { onWriteReady: () => {}, onError: () => note('second') });
    stage.close(a);
    second.stop(); // the kernel hears of it: EBADF
    expect(await stage.noted(1)).toEqual([['EBADF', a]]);
    expect([first.active, second.active]).toEqual([false, false]);
    loop.watchIo(b, { onReadReady: (fd) => note(stage.read(fd)) });
    stage.write(peer, 'fine');
    await stage.noted(2);
    expect(notes[1]).toBe('fine');
  });

  test('a watcher that is stopped while another of its descriptor hears of the failure hears nothing', async (stage) => {
    const { loop, notes, note } = stage;
    const [a] = stage.pair();
    const third = loop.watchIo(a, { onWriteReady: () => {} });
    loop.watchIo(a, {
      onReadReady: () => {},
      onError: () => {
        note('first');
        second.stop();
      },
    });
    const second = loop.watchIo(a, { onReadReady: () => {}, onError: () => note('second') });
    stage.close(a);
    third.stop();
    await stage.noted(1);
    await stage.quiet();
    expect(notes).toEqual(['first']);
  });

  test('a number that was refused and names something else by now is watched, not failed', async (stage) => {
    const { loop, notes, note } = stage;
    const [a] = stage.pair();
    const old = loop.watchIo(a, { onReadReady: () => note('old'), onError: () => note('error') });
    const other = loop.watchIo(a, { onWriteReady: () => {}, onError: () => {} });
    stage.close(a);
    other.stop(); // refused: EBADF, to be told in the next round
    const [c, d] = stage.pair();
    expect([c, d]).toContain(a);
    const fresh = loop.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)) });
    old.stop();
    await stage.quiet();
    expect(notes).toEqual([]);
    expect(fresh.active).toBe(true);
    stage.write(c === a ? d : c, 'fresh');
    expect(await stage.noted(1)).toEqual(['fresh']);
  });
});
