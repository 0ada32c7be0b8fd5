/** Readiness: who is told, when, and in which order. */
import { sys } from 'forkbeard';
import { expect } from 'vitest';
import { contract } from './contract.ts';

contract('readiness', (test) => {
  test('nothing is told while nothing is ready, nor at registration', async (stage) => {
    const { loop, notes, note } = stage;
    const [a] = stage.pair();
    const [reader] = stage.pipe();
    loop.watchIo(a, { onReadReady: () => note('read'), onHangup: () => note('hangup') });
    loop.watchIo(reader, { onReadReady: () => note('pipe') });
    await stage.quiet();
    expect(notes).toEqual([]);
  });

  test('data makes a descriptor readable, and the handler gets its number', async (stage) => {
    const { loop, note } = stage;
    const [a, b] = stage.pair();
    loop.watchIo(a, {
      onReadReady: (fd) => {
        expect(fd).toBe(a);
        note(stage.read(fd));
      },
    });
    stage.write(b, 'one');
    expect(await stage.noted(1)).toEqual(['one']);
    stage.write(b, 'two');
    expect(await stage.noted(2)).toEqual(['one', 'two']);
  });

  test('readiness is a level: who does not read is told again', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const watcher = loop.watchIo(a, {
      onReadReady: (fd) => {
        note('read');
        if (notes.length === 3) stage.read(fd);
      },
    });
    stage.write(b);
    await stage.noted(3);
    await stage.quiet();
    expect(notes.length).toBe(3);
    expect(watcher.active).toBe(true);
  });

  test('data that was there before the watcher is told as well', async (stage) => {
    const { loop, note } = stage;
    const [a, b] = stage.pair();
    stage.write(b, 'early');
    loop.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)) });
    expect(await stage.noted(1)).toEqual(['early']);
  });

  test('a stopped watcher hears nothing, a new one on the same descriptor does', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const first = loop.watchIo(a, { onReadReady: () => note('first') });
    first.stop();
    expect(first.active).toBe(false);
    stage.write(b);
    await stage.quiet();
    expect(notes).toEqual([]);
    loop.watchIo(a, { onReadReady: (fd) => note(`second ${stage.read(fd)}`) });
    expect(await stage.noted(1)).toEqual(['second x']);
    first.stop();
    first.stop();
    stage.write(b);
    expect(await stage.noted(2)).toEqual(['second x', 'second x']);
  });

  test('a write watch can join a read watch and leave it again', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    loop.watchIo(a, { onReadReady: (fd) => note(stage.read(fd)) });
    const writing = loop.watchIo(a, {
      onWriteReady: () => {
        writing.stop();
        note('write');
      },
    });
    expect(await stage.noted(1)).toEqual(['write']);
    await stage.quiet();
    expect(notes).toEqual(['write']);
    stage.write(b, 'still');
    expect(await stage.noted(2)).toEqual(['write', 'still']);
  });

  test('the end of a stream is readable, on sockets and on pipes', async (stage) => {
    const { loop, note } = stage;
    const [a, b] = stage.pair();
    const [reader, writer] = stage.pipe();
    for (const fd of [a, reader]) {
      const watcher = loop.watchIo(fd, {
        onReadReady: () => {
          watcher.stop();
          note(sys.read(fd, Buffer.alloc(1)));
        },
      });
    }
    stage.close(b);
    expect(await stage.noted(1)).toEqual([0]);
    stage.close(writer);
    expect(await stage.noted(2)).toEqual([0, 0]);
  });

  test('a full socket becomes writable when its peer reads', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    stage.fill(a);
    const watcher = loop.watchIo(a, {
      onWriteReady: () => {
        watcher.stop();
        note('writable');
      },
    });
    await stage.quiet();
    expect(notes).toEqual([]);
    stage.read(b);
    expect(await stage.noted(1)).toEqual(['writable']);
  });

  test('one event runs read, write and hangup in this order, whatever the order of the watchers', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const watchers = [
      loop.watchIo(a, { onHangup: () => note('hangup') }),
      loop.watchIo(a, { onWriteReady: () => note('write') }),
      loop.watchIo(a, { onReadReady: () => note('read') }),
      loop.watchIo(a, {
        onHangup: () => note('hangup too'),
        onReadReady: () => note('read too'),
        onWriteReady: () => {
          note('write too');
          for (const watcher of watchers.slice(1)) watcher.unref();
        },
      }),
    ];
    stage.write(b);
    stage.close(b);
    await stage.noted(6);
    expect(notes.slice(0, 6)).toEqual(['read', 'read too', 'write', 'write too', 'hangup', 'hangup too']);
    for (const watcher of watchers) watcher.stop();
  });

  test('every watcher of a descriptor is told', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const watchers = Array.from({ length: 5 }, (_, index) =>
      loop.watchIo(a, { onReadReady: () => note(index) }),
    );
    stage.write(b);
    await stage.until(() => notes.length >= 5);
    for (const watcher of watchers) watcher.stop();
    expect(notes.slice(0, 5)).toEqual([0, 1, 2, 3, 4]);
  });

  test('a descriptor and its duplicate are watched apart', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const twin = stage.own(sys.dup(a));
    const watchers = [a, twin].map((fd) =>
      loop.watchIo(fd, {
        onReadReady: () => {
          watchers.find((watcher) => watcher.fd === fd)?.stop();
          note(fd);
        },
      }),
    );
    stage.write(b);
    await stage.noted(2);
    expect(new Set(notes)).toEqual(new Set([a, twin]));
  });

  test('unwatchIo takes directions away, or everybody', async (stage) => {
    const { loop, notes, note } = stage;
    const [a, b] = stage.pair();
    const both = loop.watchIo(a, {
      onReadReady: () => note('read'),
      onWriteReady: () => note('write'),
      onHangup: () => note('hangup'),
    });
    const reading = loop.watchIo(a, { onReadReady: () => note('other read') });
    loop.unwatchIo(a, { read: true });
    expect([both.active, reading.active]).toEqual([true, false]);
    loop.unwatchIo(a, { write: true });
    stage.write(b);
    await stage.quiet();
    expect(notes).toEqual([]);
    stage.close(b);
    expect(await stage.noted(1)).toEqual(['hangup']);
    loop.unwatchIo(a);
    expect(both.active).toBe(false);
    loop.unwatchIo(a);
    loop.unwatchIo(1_000_000);
    loop.unwatchIo(a, {});
  });

  test('a UDP socket that only has an error wakes its reader', async (stage) => {
    const { loop, note } = stage;
    const peer = sys.socket('inet', 'dgram');
    sys.bind(peer, { host: '127.0.0.1', port: 0 });
    const socket = stage.own(sys.socket('inet', 'dgram'));
    expect(sys.connect(socket, sys.localAddress(peer))).toBe(0);
    sys.close(peer);
    loop.watchIo(socket, {
      onReadReady: (fd) => {
        note(sys.recv(fd, Buffer.alloc(8)));
      },
    });
    expect(sys.send(socket, Buffer.from('x'))).toBe(1); // the kernel answers: port unreachable
    expect(await stage.noted(1)).toEqual([-sys.ECONNREFUSED]);
    await stage.quiet();
    expect(stage.notes.length).toBe(1);
  });

  test('a UDP socket with an error tells whoever only has onError, once for each error', async (stage) => {
    const { loop, notes, note } = stage;
    const peer = sys.socket('inet', 'dgram');
    sys.bind(peer, { host: '127.0.0.1', port: 0 });
    const socket = stage.own(sys.socket('inet', 'dgram'));
    expect(sys.connect(socket, sys.localAddress(peer))).toBe(0);
    sys.close(peer);
    const watcher = loop.watchIo(socket, {
      onError: (error, fd) => note([(error as NodeJS.ErrnoException).code, fd]),
    });
    expect(sys.send(socket, Buffer.from('x'))).toBe(1);
    expect(await stage.noted(1)).toEqual([['ECONNREFUSED', socket]]);
    await stage.quiet();
    expect(notes.length).toBe(1);
    watcher.rearm();
    expect(sys.send(socket, Buffer.from('x'))).toBe(1);
    await stage.noted(2);
    expect(notes[1]).toEqual(['ECONNREFUSED', socket]);
  });

  test('a refused connection makes the socket writable and leaves its error', async (stage) => {
    const { loop, note } = stage;
    const listener = sys.listen({ host: '127.0.0.1', port: 0 });
    const address = sys.localAddress(listener);
    sys.close(listener);
    const socket = stage.own(sys.socket('inet', 'stream'));
    const result = sys.connect(socket, address);
    expect([-sys.EINPROGRESS, -sys.ECONNREFUSED]).toContain(result);
    const watcher = loop.watchIo(socket, {
      onWriteReady: (fd) => {
        watcher.stop();
        note(sys.socketError(fd));
      },
    });
    await stage.noted(1);
    if (result === -sys.EINPROGRESS) expect(stage.notes).toEqual([sys.ECONNREFUSED]);
  });

  test('a listening socket is readable while somebody waits to be accepted', async (stage) => {
    const { loop, notes, note } = stage;
    const listener = stage.own(sys.listen({ host: '127.0.0.1', port: 0 }));
    loop.watchIo(listener, { onReadReady: (fd) => note(stage.own(sys.accept(fd))) });
    await stage.quiet();
    for (let count = 1; count <= 3; count++) {
      const client = stage.own(sys.socket('inet', 'stream'));
      sys.connect(client, sys.localAddress(listener));
      await stage.noted(count);
    }
    await stage.quiet();
    expect(notes.length).toBe(3);
    for (const fd of notes) expect(fd).toBeGreaterThan(2);
  });

  test('a descriptor that is not open is refused at once, and leaves nothing behind', async (stage) => {
    const { loop } = stage;
    const [a] = stage.pair();
    loop.watchIo(a, { onReadReady: () => {} }).stop(); // whatever the loop opens for itself at first is open now
    stage.close(a);
    for (let time = 0; time < 3; time++) {
      expect(() => loop.watchIo(a, { onReadReady: () => {} })).toThrowError(
        expect.objectContaining({ code: 'EBADF', errno: -9, fd: a, syscall: expect.any(String) }),
      );
    }
    const [c, d] = stage.pair();
    loop.watchIo(c, { onReadReady: (fd) => stage.note(stage.read(fd)) });
    stage.write(d, 'works');
    expect(await stage.noted(1)).toEqual(['works']);
  });

  test('a watcher among thousands of rounds never loses an event', async (stage) => {
    const { loop, note } = stage;
    const [a, b] = stage.pair();
    const rounds = 2000;
    let sent = 0;
    let echoed = 0;
    loop.watchIo(a, { onReadReady: (fd) => stage.write(fd, stage.read(fd)) });
    loop.watchIo(b, {
      onReadReady: (fd) => {
        stage.read(fd);
        if (++echoed === rounds) note('done');
        else stage.write(fd, String(sent++ % 10));
      },
    });
    stage.write(b, String(sent++ % 10));
    await stage.noted(1);
    expect(echoed).toBe(rounds);
  });
});
