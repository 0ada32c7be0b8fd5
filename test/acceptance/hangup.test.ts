/** The end of a connection: told once, after the data, and never a reason to spin. */
import { sys } from 'forkbeard';
import { expect } from 'vitest';
import { contract, type Stage, slow } from './contract.ts';

/** The loop rests: a spinning one would use all of the time that it is given. */
async function expectRest(stage: Stage): Promise<void> {
  const window = 200;
  const cpu = await stage.cpuOfQuiet(window);
  expect(cpu).toBeLessThan(Math.max(window / 2, 100 * slow));
}

contract('hangup', (test) => {
  test('a peer that goes is told to those who only wait for that', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const watcher = loop.watchIo(a, { onHangup: (fd) => note(fd) });
    await stage.quiet();
    expect(notes).toEqual([]);
    stage.close(b);
    expect(await stage.noted(1)).toEqual([a]);
    expect(watcher.active).toBe(true);
    await expectRest(stage);
    expect(notes).toEqual([a]);
  });

  test('the write end of a pipe hangs up when the reader goes', async (stage) => {
    const { loop, notes, note } = stage;
    const [reader, writer] = stage.pipe();
    loop.watchIo(writer, { onHangup: () => note('hangup') });
    stage.close(reader);
    await stage.noted(1);
    await expectRest(stage);
    expect(notes).toEqual(['hangup']);
  });

  test('the read end of a pipe hangs up when the writer goes', async (stage) => {
    const { loop, notes, note } = stage;
    const [reader, writer] = stage.pipe();
    loop.watchIo(reader, { onHangup: () => note('hangup') });
    stage.close(writer);
    await stage.noted(1);
    await expectRest(stage);
    expect(notes).toEqual(['hangup']);
  });

  test('data comes before the hangup, however slowly it is read', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    stage.write(b, 'abcd');
    stage.close(b);
    const watcher = loop.watchIo(a, {
      onReadReady: (fd) => {
        const buffer = Buffer.alloc(1);
        const count = sys.read(fd, buffer);
        note(count === 0 ? 'end' : buffer.toString());
        if (count === 0) watcher.stop();
      },
      onHangup: () => note('hangup'),
    });
    await stage.until(() => notes.includes('end'));
    expect(notes.filter((entry) => entry !== 'hangup')).toEqual(['a', 'b', 'c', 'd', 'end']);
    expect(notes[0]).toBe('a');
    expect(notes.filter((entry) => entry === 'hangup')).toEqual(['hangup']);
  });

  test('a peer that only stops writing is a hangup, once, and can still be written to', async (stage) => {
    const { loop, notes, note } = stage;
    for (const [a, b] of [stage.pair(), stage.tcpPair()]) {
      notes.length = 0;
      const watcher = loop.watchIo(a, { onHangup: () => note('half') });
      sys.shutdown(b, 'write');
      await stage.noted(1);
      await expectRest(stage);
      expect(notes).toEqual(['half']);
      stage.write(a, 'answer');
      expect(stage.read(b)).toBe('answer');
      watcher.stop();
    }
  });

  test('a half-closed connection does not wake its writer', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.tcpPair();
    stage.fill(a);
    loop.watchIo(a, { onWriteReady: () => note('write'), onHangup: () => note('half') });
    sys.shutdown(b, 'write');
    expect(await stage.noted(1)).toEqual(['half']);
    await expectRest(stage);
    expect(notes).toEqual(['half']);
  });

  test('data on a descriptor that is watched for its end alone does not spin', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    loop.watchIo(a, { onHangup: () => note('hangup') });
    stage.write(b, 'nobody reads this');
    await expectRest(stage);
    expect(notes).toEqual([]);
    stage.close(b);
    expect(await stage.noted(1)).toEqual(['hangup']);
  });

  test('a hangup that was told does not spin under a reader that is done', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const reading = loop.watchIo(a, {
      onReadReady: () => {
        note('read');
        reading.stop();
      },
    });
    loop.watchIo(a, { onHangup: () => note('hangup') });
    stage.close(b);
    await stage.noted(2);
    await expectRest(stage);
    expect(notes).toEqual(['read', 'hangup']);
  });

  test('a round inside the handler of a hangup rests', async (stage) => {
    const { loop, note } = stage;
    const [a, b] = stage.pair();
    loop.watchIo(a, {
      onHangup: () => {
        const before = process.cpuUsage();
        const calls = loop.runOnce(200);
        const { user, system } = process.cpuUsage(before);
        note([calls, (user + system) / 1000]);
      },
    });
    stage.close(b);
    await stage.noted(1);
    const [calls, cpu] = stage.notes[0] as [number, number];
    expect(calls).toBe(0);
    expect(cpu).toBeLessThan(40 * slow);
  });

  test('a hangup can be armed again and is told again', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const watcher = loop.watchIo(a, { onHangup: () => note('hangup') });
    stage.close(b);
    await stage.noted(1);
    watcher.rearm();
    await stage.noted(2);
    await stage.quiet();
    expect(notes.length).toBe(2);
  });

  test('a reset connection wakes reader, writer and hangup', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.tcpPair();
    stage.fill(a);
    const watcher = loop.watchIo(a, {
      onReadReady: (fd) => {
        const result = sys.read(fd, Buffer.alloc(8));
        note(`read ${result}`);
        watcher.stop();
      },
    });
    const writing = loop.watchIo(a, {
      onWriteReady: () => {
        writing.stop();
        note('write');
      },
    });
    loop.watchIo(a, { onHangup: () => note('hangup') });
    // Unread data and an abrupt close: the peer sends a reset.
    sys.setSocketOption(b, 'linger', 0);
    stage.close(b);
    await stage.noted(3);
    expect(notes).toEqual([`read ${-sys.ECONNRESET}`, 'write', 'hangup']);
    await expectRest(stage);
    expect(notes.length).toBe(3);
  });

  test('stopping in the read handler of the last data still leaves the hangup to the others', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const own = loop.watchIo(a, {
      onReadReady: (fd) => {
        note(stage.read(fd));
        own.stop();
      },
      onHangup: () => note('hangup of a stopped watcher'),
    });
    loop.watchIo(a, { onHangup: () => note('hangup') });
    stage.write(b, 'last');
    stage.close(b);
    await stage.noted(2);
    await stage.quiet();
    expect(notes).toEqual(['last', 'hangup']);
  });
});
