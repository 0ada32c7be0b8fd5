/** postFork in the same process: new kernel objects, the same watchers, nothing lost. */
import { existsSync, readdirSync } from 'node:fs';
import { sys } from 'forkbeard';
import { expect } from 'vitest';
import { contract, outside, slow } from './contract.ts';

contract('postFork', (test) => {
  test('descriptors stay watched', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    loop.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)) });
    loop.postFork();
    await stage.quiet();
    expect(notes).toEqual([]);
    stage.write(b, 'after');
    expect(await stage.noted(1)).toEqual(['after']);
    loop.postFork();
    stage.write(b, 'again');
    expect(await stage.noted(2)).toEqual(['after', 'again']);
  });

  test('what was ready before is told after', async (stage) => {
    const { loop, note } = stage;
    const [a, b] = stage.pair();
    loop.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)) });
    stage.write(b, 'before');
    loop.postFork();
    expect(await stage.noted(1)).toEqual(['before']);
  });

  test('timers keep their time, idle work its turn', async (stage) => {
    const { loop, note } = stage;
    const start = loop.now();
    const wall = Date.now();
    loop.watchTime({ after: 60 }, () => note(['after', loop.now() - start >= 60]));
    loop.watchTime({ at: wall + 80 }, () => note(['at', Date.now() >= wall + 80]));
    loop.watchIdle(() => note(['idle', true]));
    loop.postFork();
    await stage.noted(3);
    // Where the machine stood still meanwhile, the timers are due before the idle work of the same round.
    expect(stage.notes.filter((entry) => (entry as unknown[])[0] !== 'idle')).toEqual([
      ['after', true],
      ['at', true],
    ]);
    expect(stage.notes).toContainEqual(['idle', true]);
    expect(loop.now() - start).toBeLessThan(2000 * slow);
  });

  test('a loop that was never used can be made anew, and one that sleeps towards a timer', async (stage) => {
    const { loop, note } = stage;
    stage.another().postFork();
    loop.watchTime({ after: 30 }, () => note('timer'));
    await stage.quiet(5);
    loop.postFork();
    expect(await stage.noted(1)).toEqual(['timer']);
  });

  test('what cannot be watched any more is told with the reason of the kernel', async (stage) => {
    const { loop, note } = stage;
    // An epoll set inside of too many others is ELOOP; nothing of the kind elsewhere.
    if (loop.backend !== 'epoll') return;
    const [a] = stage.pair();
    loop.watchIo(a, {
      onReadReady: () => note('ready'),
      onError: (error, fd) => note([(error as NodeJS.ErrnoException).code, fd]),
    });
    let outermost = stage.another();
    for (let refused = false; !refused; ) {
      const outer = stage.another();
      try {
        outer.watchIo(outermost.fd, { onReadReady: () => {} });
        outermost = outer;
      } catch (error) {
        expect(error).toMatchObject({ code: 'ELOOP' });
        refused = true;
      }
    }
    // One more, which Node's own loop can have no part in any more, as it says.
    const most = stage.another();
    const [b] = stage.pair();
    most.watchIo(b, { onReadReady: () => {} });
    sys.close(b);
    expect(sys.dup(outermost.fd, b)).toBe(b);
    expect(() => most.postFork()).toThrow('ELOOP');
    const { fd } = most;
    sys.close(a);
    expect(sys.dup(fd, a)).toBe(a);
    loop.postFork();
    expect(await stage.noted(1)).toEqual([['ELOOP', a]]);
  });

  test('it has another id, and stays on the same backend', ({ loop }) => {
    const ids = new Set([loop.id]);
    const { backend } = loop;
    for (let time = 0; time < 5; time++) {
      loop.postFork();
      ids.add(loop.id);
    }
    expect(ids.size).toBe(6);
    expect(loop.backend).toBe(backend);
    if (backend === 'poll') expect(loop.fd).toBe(-1);
    else expect(loop.fd).toBeGreaterThan(2);
  });

  test('in the middle of a batch, from a handler: everybody is told', async (stage) => {
    const { loop, notes, note } = stage;
    const pairs = Array.from({ length: 10 }, () => stage.pair());
    for (const [index, [a]] of pairs.entries()) {
      loop.watchIo(a, {
        onReadReady: (fd) => {
          stage.read(fd);
          note(index);
          if (notes.length === 3) loop.postFork();
        },
      });
    }
    for (const [, b] of pairs) stage.write(b);
    await stage.noted(10);
    await stage.quiet();
    expect(notes.toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for (const [, b] of pairs) stage.write(b);
    await stage.noted(20);
  });

  test('from a timer and from idle work', async (stage) => {
    const { loop, note } = stage;
    const [a, b] = stage.pair();
    loop.watchTime({ after: 1 }, () => {
      loop.postFork();
      loop.watchIdle(() => {
        loop.postFork();
        stage.write(b, 'x');
      });
    });
    loop.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)) });
    expect(await stage.noted(1)).toEqual(['x']);
  });

  test('edges, oneshots, hangups and disarmed watchers stay what they were', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const [c, d] = stage.pair();
    const [e, f] = stage.pair();
    loop.watchIo(a, { onReadReady: (fd) => note(`edge ${stage.read(fd)}`) }, { edge: true });
    const once = loop.watchIo(c, { onReadReady: () => note('once') }, { oneshot: true });
    loop.watchIo(e, { onHangup: () => note('hangup') });
    stage.write(d);
    expect(await stage.noted(1)).toEqual(['once']);
    loop.postFork();
    await stage.quiet();
    expect(notes).toEqual(['once']);
    stage.write(b, '1');
    await stage.noted(2);
    stage.close(f);
    await stage.noted(3);
    once.rearm();
    await stage.noted(4);
    await stage.quiet();
    expect(notes).toEqual(['once', 'edge 1', 'hangup', 'once']);
  });

  test('what was closed behind the loop is told to its onError, and the rest goes on', async (stage) => {
    const { loop, notes, note } = stage;
    const [a] = stage.pair();
    const [b, peer] = stage.pair();
    const gone = loop.watchIo(a, {
      onReadReady: () => note('read'),
      onError: (error, fd) => note([(error as NodeJS.ErrnoException).code, fd]),
    });
    loop.watchIo(b, { onReadReady: (fd) => note(stage.read(fd)) });
    stage.close(a);
    loop.postFork();
    expect(await stage.noted(1)).toEqual([['EBADF', a]]);
    expect(gone.active).toBe(false);
    stage.write(peer, 'fine');
    await stage.noted(2);
    expect(notes[1]).toBe('fine');
  });

  test('a run goes on', async (stage) => {
    const { loop } = stage;
    loop.watchTime({ after: 10 }, () => loop.stop('ended'));
    loop.watchTime({ after: 1 }, () => loop.postFork());
    if (stage.mode === 'blocking') expect(await outside(() => loop.runSync())).toBe('ended');
    else {
      const run = loop.run();
      loop.postFork();
      expect(await run).toBe('ended');
    }
  });

  test('a hundred times leaves no descriptor behind', async (stage) => {
    if (!existsSync('/proc/self/fd')) return;
    const { loop, note } = stage;
    const [a, b] = stage.pair();
    loop.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)) });
    loop.watchTime({ at: Date.now() + 3_600_000 }, () => {});
    loop.postFork();
    await stage.quiet(5);
    const before = readdirSync('/proc/self/fd').length;
    for (let time = 0; time < 100; time++) {
      loop.postFork();
      if (time % 25 === 0) await stage.quiet(2);
    }
    await stage.quiet(5);
    expect(readdirSync('/proc/self/fd').length).toBe(before);
    stage.write(b, 'still');
    expect(await stage.noted(1)).toEqual(['still']);
  });

  test('a closed loop refuses', ({ loop }) => {
    loop.close();
    expect(() => loop.postFork()).toThrowError(
      expect.objectContaining({ code: 'ERR_FORKBEARD_LOOP_CLOSED' }),
    );
  });
});
