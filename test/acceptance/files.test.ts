/** What a kernel cannot poll is always ready: regular files, directories, /dev/null. */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import { contract } from './contract.ts';

const folder = mkdtempSync(join(tmpdir(), 'forkbeard-files-'));
const file = join(folder, 'file');
const empty = join(folder, 'empty');
writeFileSync(file, 'some content');
writeFileSync(empty, '');
afterAll(() => rmSync(folder, { recursive: true }));

contract('files', (test) => {
  test('a regular file is readable and writable at once', async (stage) => {
    const { loop, note } = stage;
    const fd = stage.own(openSync(file, 'r+'));
    const watcher = loop.watchIo(fd, {
      onReadReady: () => note(stage.read(fd)),
      onWriteReady: () => {
        note('write');
        watcher.stop();
      },
    });
    expect(await stage.noted(2)).toEqual(['some content', 'write']);
  });

  test('also when it is empty, or read to its end; also a directory, and /dev/null', async (stage) => {
    const { loop, notes, note } = stage;
    for (const path of [empty, file, folder, '/dev/null']) {
      const fd = stage.own(openSync(path, 'r'));
      if (path === file) stage.read(fd);
      notes.length = 0;
      const watcher = loop.watchIo(fd, {
        onReadReady: () => {
          note(path);
          watcher.stop();
        },
      });
      expect(await stage.noted(1)).toEqual([path]);
    }
  });

  test('it is told once a round at most, and real events come between', async (stage) => {
    const { loop, notes, note } = stage;
    const fd = stage.own(openSync(file, 'r'));
    const [a, b] = stage.pair();
    loop.watchIo(fd, {
      onReadReady: () => {
        note('file');
        stage.write(b);
      },
    });
    loop.watchIo(a, {
      onReadReady: () => {
        stage.read(a);
        note('socket');
      },
    });
    await stage.noted(41);
    expect(notes[0]).toBe('file');
    const files = notes.slice(1, 41).filter((entry) => entry === 'file').length;
    // Where a round has the file first, the socket's bytes of two rounds are read at once.
    expect(files).toBeGreaterThanOrEqual(19);
    expect(files).toBeLessThanOrEqual(28);
  });

  test('timers, idle work and the turns of a program go on beside it', async (stage) => {
    const { loop, note, notes } = stage;
    const fd = stage.own(openSync(file, 'r'));
    let told = 0;
    loop.watchIo(fd, {
      onReadReady: () => {
        told++;
      },
    });
    loop.watchTime({ after: 20 }, () => note('timer'));
    loop.watchIdle(() => note('idle'));
    await stage.noted(2);
    expect(new Set(notes)).toEqual(new Set(['idle', 'timer']));
    expect(told).toBeGreaterThan(1);
  });

  test('many files share the rounds evenly', async (stage) => {
    const { loop } = stage;
    const told = new Map<number, number>();
    let total = 0;
    const fds = Array.from({ length: 600 }, () => stage.own(openSync(file, 'r')));
    for (const fd of fds) {
      loop.watchIo(fd, {
        onReadReady: () => {
          told.set(fd, (told.get(fd) ?? 0) + 1);
          if (++total === 6000) {
            for (const other of fds) loop.unwatchIo(other);
            stage.note('done');
          }
        },
      });
    }
    await stage.noted(1);
    expect(told.size).toBe(600);
    expect(Math.max(...told.values()) - Math.min(...told.values())).toBeLessThanOrEqual(4);
  });

  test('a stopped one is silent and costs nothing', async (stage) => {
    const { loop, notes, note } = stage;
    const fd = stage.own(openSync(file, 'r'));
    const watcher = loop.watchIo(fd, { onReadReady: () => note('file') });
    await stage.noted(1);
    watcher.stop();
    const before = notes.length;
    expect(await stage.cpuOfQuiet(200)).toBeLessThan(100);
    expect(notes.length).toBe(before);
  });

  test('an edge is told once, a oneshot until it is armed again', async (stage) => {
    const { loop, notes, note } = stage;
    const fd = stage.own(openSync(file, 'r'));
    const edge = loop.watchIo(fd, { onReadReady: () => note('edge') }, { edge: true });
    await stage.noted(1);
    expect(await stage.cpuOfQuiet(100)).toBeLessThan(60);
    // poll(2) takes a file for something that could have changed, and tells it again now and then.
    if (loop.backend !== 'poll') expect(notes).toEqual(['edge']);
    edge.stop();
    notes.length = 1;
    const once = loop.watchIo(fd, { onReadReady: () => note('once') }, { oneshot: true });
    await stage.noted(2);
    await stage.quiet();
    expect(notes).toEqual(['edge', 'once']);
    once.rearm();
    await stage.noted(3);
    await stage.quiet();
    expect(notes).toEqual(['edge', 'once', 'once']);
  });

  test('a file never hangs up, and waiting for that alone does not spin', async (stage) => {
    const { loop, notes, note } = stage;
    const fd = stage.own(openSync(file, 'r'));
    loop.watchIo(fd, { onHangup: () => note('hangup') });
    expect(await stage.cpuOfQuiet(200)).toBeLessThan(100);
    expect(notes).toEqual([]);
  });

  test('the number of a closed file serves a socket next', async (stage) => {
    const { loop, note } = stage;
    const fd = openSync(file, 'r');
    const watcher = loop.watchIo(fd, { onReadReady: () => note('file') });
    await stage.noted(1);
    watcher.stop();
    closeSync(fd);
    stage.notes.length = 0;
    const [a, b] = stage.pair();
    expect(a).toBe(fd);
    loop.watchIo(a, { onReadReady: () => note(stage.read(a)) });
    await stage.quiet();
    expect(stage.notes).toEqual([]);
    stage.write(b, 'socket');
    expect(await stage.noted(1)).toEqual(['socket']);
  });

  test('one that is closed under its watcher refuses another, and its number serves a socket then', async (stage) => {
    const { loop, notes, note } = stage;
    const fd = openSync(file, 'r');
    const watcher = loop.watchIo(fd, { onReadReady: () => note('file'), onError: () => note('error') });
    await stage.noted(1);
    closeSync(fd);
    expect(() => loop.watchIo(fd, { onWriteReady: () => {} })).toThrow('EBADF');
    const [a, b] = stage.pair();
    expect(a).toBe(fd);
    notes.length = 0;
    loop.watchIo(a, { onReadReady: () => note(stage.read(a)) });
    await stage.quiet();
    expect(notes).toEqual([]);
    watcher.stop();
    stage.write(b, 'socket');
    expect(await stage.noted(1)).toEqual(['socket']);
  });
});
