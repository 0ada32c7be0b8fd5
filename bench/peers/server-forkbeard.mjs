// What the forkbeard servers share, the same as server.h: … blocking|integrated batch|handler
import { Loop, sys } from 'forkbeard';

const [mode, drain] = process.argv.slice(2);
const loop = new Loop({ drain });
const buffer = Buffer.alloc(65536);
let onBytes;
let onClose;

const reading = {
  onReadReady(fd) {
    const bytes = sys.read(fd, buffer);
    if (bytes > 0) onBytes(fd, buffer, bytes);
    else if (bytes !== -sys.EAGAIN) hangup(fd);
  },
};

function hangup(fd) {
  loop.unwatchIo(fd);
  sys.close(fd);
  onClose?.(fd);
}

/** Calls `bytes(fd, buffer, length)` with what each connection sends; it answers with `answer`. */
export function serve(handlers) {
  onBytes = handlers.bytes;
  onClose = handlers.close;
  const listener = sys.listen({ host: '127.0.0.1', port: 0 }, { backlog: 1024 });
  loop.watchIo(listener, {
    onReadReady() {
      for (let fd = sys.accept(listener); fd >= 0; fd = sys.accept(listener)) loop.watchIo(fd, reading);
    },
  });
  console.log(JSON.stringify({ port: sys.localAddress(listener).port }));
  if (mode === 'blocking') loop.runSync();
}

/** While something is unsent nothing is read, so there is never a second answer behind it. */
export function answer(fd, bytes, length) {
  const sent = length === bytes.length ? sys.write(fd, bytes) : sys.write(fd, bytes, 0, length);
  if (sent === length) return;
  if (sent < 0 && sent !== -sys.EAGAIN) return; // the next read says what happened
  let unsent = Buffer.from(bytes.subarray(Math.max(sent, 0), length));
  loop.unwatchIo(fd);
  loop.watchIo(fd, {
    onWriteReady() {
      const more = sys.write(fd, unsent);
      if (more === -sys.EAGAIN) return;
      if (more < 0) return hangup(fd);
      unsent = unsent.subarray(more);
      if (unsent.length > 0) return;
      loop.unwatchIo(fd);
      loop.watchIo(fd, reading);
    },
  });
}
