/** The three options of watchIo: told at changes only, told once, and one of many told. */
import { sys } from 'forkbeard';
import { expect } from 'vitest';
import { contract, type Stage } from './contract.ts';

const code = (name: string) => expect.objectContaining({ code: `ERR_FORKBEARD_${name}` });

function connect(stage: Stage, listener: number): number {
  const client = stage.own(sys.socket('inet', 'stream'));
  sys.connect(client, sys.localAddress(listener));
  return client;
}

/** Nothing more is told. Where poll(2) has to guess, an edge may be told again, after a pause. */
async function rests(stage: Stage, told: number): Promise<void> {
  await stage.quiet();
  if (stage.loop.backend !== 'poll') expect(stage.notes.length).toBe(told);
  expect(stage.notes.length).toBeLessThanOrEqual(told + 8);
  stage.notes.length = told;
}

contract('edge', (test) => {
  test('writable is told once when it is watched, and again when a full buffer drains', async (stage) => {
    const { loop, note } = stage;
    const [a, b] = stage.pair();
    loop.watchIo(a, { onWriteReady: () => note('write') }, { edge: true });
    await stage.noted(1);
    await rests(stage, 1);
    stage.fill(a);
    await rests(stage, 1);
    stage.read(b);
    await stage.noted(2);
  });

  test('readable is told once for the data that is there, and again when more comes', async (stage) => {
    const { loop, note } = stage;
    const [a, b] = stage.pair();
    stage.write(b);
    loop.watchIo(a, { onReadReady: () => note('read') }, { edge: true });
    await stage.noted(1);
    await rests(stage, 1);
    stage.write(b);
    await stage.noted(2);
    await rests(stage, 2);
    stage.read(a);
    stage.write(b);
    await stage.noted(3);
  });

  test('a change between two rounds is not lost, though everything looks as before', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    loop.watchIo(
      a,
      {
        onReadReady: (fd) => {
          note(stage.read(fd));
          if (notes.length < 50) stage.write(b, 'same');
        },
      },
      { edge: true },
    );
    stage.write(b, 'same');
    await stage.noted(50);
    expect(new Set(notes)).toEqual(new Set(['same']));
  });

  test('the end of the stream is an edge', async (stage) => {
    const { loop, note } = stage;
    const [a, b] = stage.pair();
    const buffer = Buffer.alloc(8);
    loop.watchIo(
      a,
      {
        onReadReady: (fd) => {
          const count = sys.read(fd, buffer);
          note(count);
        },
        onHangup: () => note('hangup'),
      },
      { edge: true },
    );
    stage.write(b);
    await stage.noted(1);
    stage.close(b);
    await stage.noted(3);
    expect(stage.notes).toEqual([1, 0, 'hangup']);
  });

  test('rearm tells anew what was told and not used', async (stage) => {
    const { loop, note } = stage;
    const [a, b] = stage.pair();
    const watcher = loop.watchIo(a, { onReadReady: () => note('read') }, { edge: true });
    stage.write(b);
    await stage.noted(1);
    await rests(stage, 1);
    watcher.rearm();
    await stage.noted(2);
    await rests(stage, 2);
  });

  test('many edges at once are not lost when they do not fit into a batch', async (stage) => {
    const { loop } = stage;
    const told = new Set<number>();
    let times = 0;
    const pairs = Array.from({ length: 1000 }, () => stage.pair());
    for (const [a] of pairs) {
      loop.watchIo(
        a,
        {
          onReadReady: (fd) => {
            stage.read(fd);
            told.add(fd);
            if (++times === 1000) stage.note('all');
          },
        },
        { edge: true },
      );
    }
    for (const [, b] of pairs) stage.write(b);
    await stage.noted(1);
    await stage.quiet();
    expect([told.size, times]).toEqual([1000, 1000]);
  });

  test('a level and an edge on one descriptor are refused, and the first goes on', async (stage) => {
    const { loop, note } = stage;
    const [a, b] = stage.pair();
    const level = loop.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)) });
    expect(() => loop.watchIo(a, { onWriteReady: () => {} }, { edge: true })).toThrowError(
      code('MIXED_TRIGGER'),
    );
    stage.write(b, 'level');
    expect(await stage.noted(1)).toEqual(['level']);
    level.stop();
    const edge = loop.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)) }, { edge: true });
    expect(() => loop.watchIo(a, { onWriteReady: () => {} })).toThrowError(code('MIXED_TRIGGER'));
    stage.write(b, 'edge');
    expect(await stage.noted(2)).toEqual(['level', 'edge']);
    edge.stop();
  });
});

contract('oneshot', (test) => {
  test('one event, then silence until it is armed again', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const watcher = loop.watchIo(a, { onReadReady: () => note('read') }, { oneshot: true });
    stage.write(b);
    await stage.noted(1);
    await stage.quiet();
    expect(notes.length).toBe(1);
    expect(watcher.active).toBe(true);
    watcher.rearm();
    await stage.noted(2);
    await stage.quiet();
    expect(notes.length).toBe(2);
  });

  test('read and write of one event both run', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    stage.write(b);
    loop.watchIo(
      a,
      { onReadReady: () => note('read'), onWriteReady: () => note('write') },
      { oneshot: true },
    );
    await stage.noted(2);
    await stage.quiet();
    expect(notes).toEqual(['read', 'write']);
  });

  test('arming again in the handler itself goes on from there', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const watcher = loop.watchIo(
      a,
      {
        onReadReady: () => {
          note('read');
          if (notes.length < 4) watcher.rearm();
        },
      },
      { oneshot: true },
    );
    stage.write(b);
    await stage.noted(4);
    await stage.quiet();
    expect(notes.length).toBe(4);
  });

  test('others on the descriptor are told on', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    loop.watchIo(a, { onReadReady: () => note('once') }, { oneshot: true });
    const always = loop.watchIo(a, {
      onReadReady: () => {
        note('always');
        if (notes.length === 5) always.stop();
      },
    });
    stage.write(b);
    await stage.noted(5);
    await stage.quiet();
    expect(notes).toEqual(['once', 'always', 'always', 'always', 'always']);
  });

  test('a disarmed watcher does not spin when its peer goes', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const watcher = loop.watchIo(a, { onReadReady: () => note('read') }, { oneshot: true });
    stage.write(b);
    await stage.noted(1);
    stage.close(b);
    expect(await stage.cpuOfQuiet(200)).toBeLessThan(100);
    expect(notes.length).toBe(1);
    watcher.rearm();
    await stage.noted(2);
  });

  test('arming a stopped watcher does nothing', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const watcher = loop.watchIo(a, { onReadReady: () => note('read') }, { oneshot: true });
    watcher.stop();
    watcher.rearm();
    stage.write(b);
    await stage.quiet();
    expect(notes).toEqual([]);
    expect(watcher.active).toBe(false);
  });

  test('with edges: one change, then silence until it is armed again', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const watcher = loop.watchIo(a, { onReadReady: () => note('read') }, { oneshot: true, edge: true });
    stage.write(b);
    await stage.noted(1);
    stage.write(b);
    await stage.quiet();
    expect(notes.length).toBe(1);
    watcher.rearm();
    await stage.noted(2);
    await stage.quiet();
    expect(notes.length).toBe(2);
  });
});

contract('exclusive', (test) => {
  test('of several loops that share a listening socket one at least is told, and it is enough', async (stage) => {
    const { note, notes } = stage;
    const listener = stage.own(sys.listen({ host: '127.0.0.1', port: 0 }));
    const loops = [stage.loop, stage.another(), stage.another()];
    const watchers = loops.map((loop) =>
      loop.watchIo(
        listener,
        {
          onReadReady: (fd) => {
            const accepted = sys.accept(fd);
            if (accepted < 0) return;
            stage.own(accepted);
            note('accepted');
          },
        },
        { exclusive: true },
      ),
    );
    for (let count = 1; count <= 5; count++) {
      connect(stage, listener);
      await stage.until(() => notes.length >= count, loops);
    }
    for (const watcher of watchers) watcher.stop();
    connect(stage, listener);
    await stage.quiet();
    expect(notes.length).toBe(5);
  });

  test('its interest can change, though the kernel modifies no exclusive entry', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const reading = loop.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)) }, { exclusive: true });
    const writing = loop.watchIo(
      a,
      {
        onWriteReady: () => {
          note('write');
          writing.stop();
        },
      },
      { exclusive: true },
    );
    await stage.noted(1);
    stage.write(b, 'data');
    expect(await stage.noted(2)).toEqual(['write', 'data']);
    reading.stop();
    loop.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)), onHangup: () => note('hangup') });
    stage.write(b, 'more');
    await stage.noted(3);
    stage.close(b);
    await stage.until(() => notes.includes('hangup'));
    expect(notes.slice(0, 3)).toEqual(['write', 'data', 'more']);
  });

  test('a oneshot on it is armed again', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const watcher = loop.watchIo(a, { onReadReady: () => note('read') }, { exclusive: true, oneshot: true });
    stage.write(b);
    await stage.noted(1);
    await stage.quiet();
    expect(notes.length).toBe(1);
    watcher.rearm();
    await stage.noted(2);
    await stage.quiet();
    expect(notes.length).toBe(2);
  });
});
