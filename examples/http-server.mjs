/**
 * An HTTP/1.1 server on raw descriptors: nothing between it and the kernel but readiness. It shows what a server on
 * the loop has to do itself (partial writes, pipelining, end of file, a full table of descriptors) and how little
 * that is.
 *
 *     node examples/http-server.mjs [port] [host]
 *     curl http://127.0.0.1:8080/
 */
import { Loop, sys } from 'forkbeard';

const [, , askedPort = process.env.PORT ?? '8080', host = '127.0.0.1', ...unknown] = process.argv;
if (!/^\d+$/.test(askedPort) || unknown.length > 0) {
  console.error('Usage: node examples/http-server.mjs [port] [host]');
  process.exit(2);
}
const port = Number(askedPort);

const LARGEST_HEAD = 16 * 1024;
const LARGEST_BODY = 1024 * 1024;
const EMPTY = Buffer.alloc(0);
const CONTINUE = Buffer.from('HTTP/1.1 100 Continue\r\n\r\n');
const REASONS = {
  200: 'OK',
  400: 'Bad Request',
  404: 'Not Found',
  413: 'Content Too Large',
  431: 'Request Header Fields Too Large',
  501: 'Not Implemented',
};

// Ticks and microtasks once a batch: nothing here waits for them.
const loop = new Loop({ drain: 'batch' });
const connections = new Map();
const input = Buffer.allocUnsafe(64 * 1024);
let served = 0;

// ------------------------------------------------------------------------------- what it answers

const hello = response(200, 'Hello from a raw descriptor\n');

function answer(method, path) {
  served++;
  if (path === '/') return method === 'HEAD' ? withoutBody(hello) : hello;
  let reply = response(404, 'Nothing here\n');
  if (path === '/status') {
    const status = { backend: loop.backend, connections: connections.size, served };
    reply = response(200, `${JSON.stringify(status)}\n`, 'application/json');
  }
  return method === 'HEAD' ? withoutBody(reply) : reply;
}

function response(status, body, type = 'text/plain') {
  return Buffer.from(
    `HTTP/1.1 ${status} ${REASONS[status]}\r\nContent-Type: ${type}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

function withoutBody(bytes) {
  return bytes.subarray(0, bytes.indexOf('\r\n\r\n') + 4);
}

// ------------------------------------------------------------------------------- a connection

class Connection {
  #fd;
  #reader;
  #writer;
  #unread = null; // the beginning of a request that has not arrived completely
  #unsent = null; // what the kernel did not take yet
  #continued = false; // this request was told to go on
  #last = false; // close when everything is sent

  constructor(fd) {
    this.#fd = fd;
    this.#startReading();
  }

  close() {
    loop.unwatchIo(this.#fd);
    connections.delete(this.#fd);
    sys.close(this.#fd);
    startAccepting();
  }

  #startReading() {
    this.#reader = loop.watchIo(this.#fd, { onReadReady: () => this.#read() });
  }

  #read() {
    const count = sys.read(this.#fd, input);
    if (count === -sys.EAGAIN) return;
    if (count <= 0) {
      this.close();
      return;
    }
    let bytes = input.subarray(0, count);
    if (this.#unread !== null) bytes = Buffer.concat([this.#unread, bytes]);
    const answers = [];
    let start = 0;
    while (start < bytes.length && !this.#last) {
      const next = this.#request(bytes, start, answers);
      if (next < 0) break;
      start = next;
      this.#continued = false;
    }
    // The input buffer is everybody's: what is left must be kept apart.
    this.#unread = start < bytes.length && !this.#last ? Buffer.from(bytes.subarray(start)) : null;
    if (answers.length > 0) this.#send(answers.length === 1 ? answers[0] : Buffer.concat(answers));
  }

  /** Answers the request that begins at `start`. Returns where the next one begins, -1 when this one is not whole. */
  #request(bytes, start, answers) {
    const headEnd = bytes.indexOf('\r\n\r\n', start);
    if (headEnd < 0) return bytes.length - start > LARGEST_HEAD ? this.#refuse(431, answers) : -1;
    const head = bytes.latin1Slice(start, headEnd);
    const line = /^([A-Z]+) (\S+) HTTP\/1\.([01])(?:\r|$)/.exec(head);
    if (line === null) return this.#refuse(400, answers);
    const [, method, path, minor] = line;

    let length = 0;
    let keepAlive = minor === '1';
    let expects = false;
    const fields = /\r\n(content-length|connection|transfer-encoding|expect):[ \t]*([^\r]*)/gi;
    for (const [, name, value] of head.matchAll(fields)) {
      switch (name.toLowerCase()) {
        case 'content-length':
          if (!/^\d+$/.test(value)) return this.#refuse(400, answers);
          length = Number(value);
          break;
        case 'connection':
          if (/\bclose\b/i.test(value)) keepAlive = false;
          else if (/\bkeep-alive\b/i.test(value)) keepAlive = true;
          break;
        case 'expect':
          expects = true;
          break;
        default:
          return this.#refuse(501, answers);
      }
    }
    if (length > LARGEST_BODY) return this.#refuse(413, answers);
    const end = headEnd + 4 + length;
    if (bytes.length < end) {
      if (expects && !this.#continued) answers.push(CONTINUE);
      this.#continued = true;
      return -1;
    }
    answers.push(answer(method, path));
    if (!keepAlive) this.#last = true;
    return end;
  }

  #refuse(status, answers) {
    answers.push(response(status, `${REASONS[status]}\n`));
    this.#last = true;
    return -1;
  }

  #send(bytes) {
    const all = this.#unsent === null ? bytes : Buffer.concat([this.#unsent, bytes]);
    const count = sys.write(this.#fd, all);
    if (count < 0 && count !== -sys.EAGAIN) {
      this.close();
      return;
    }
    if (count < all.length) {
      // A client that does not read is not read from, either.
      this.#unsent = all.subarray(Math.max(0, count));
      this.#writer ??= loop.watchIo(this.#fd, { onWriteReady: () => this.#send(EMPTY) });
      this.#reader.stop();
      return;
    }
    this.#unsent = null;
    this.#writer?.stop();
    this.#writer = undefined;
    if (this.#last) this.close();
    else if (!this.#reader.active) this.#startReading();
  }
}

// ------------------------------------------------------------------------------- the listening socket

let listener;
let acceptor;

function startAccepting() {
  if (acceptor?.active || listener === undefined) return;
  acceptor = loop.watchIo(listener, { onReadReady: acceptSome });
}

function acceptSome() {
  // A few at a time, so that those who are here already are not kept waiting.
  for (let i = 0; i < 16; i++) {
    const fd = sys.accept(listener);
    if (fd >= 0) {
      sys.setSocketOption(fd, 'noDelay', true);
      connections.set(fd, new Connection(fd));
    } else if (fd === -sys.EMFILE || fd === -sys.ENFILE) {
      // No descriptor is free. The others wait in the backlog until one of ours closes.
      acceptor.stop();
      return;
    } else if (fd === -sys.EAGAIN) {
      return;
    }
  }
}

try {
  listener = sys.listen({ host, port }, { backlog: 1024 });
} catch (error) {
  console.error(`Cannot listen on ${host}:${port}. ${error.message}`);
  process.exit(1);
}
startAccepting();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => loop.stop(signal));

const bound = sys.localAddress(listener);
console.log(
  `Serving on ${loop.backend}. Try:  curl http://${bound.host.includes(':') ? `[${bound.host}]` : bound.host}:${bound.port}/`,
);
console.log('Ctrl-C stops it.');

const signal = await loop.run();
sys.close(listener);
listener = undefined;
for (const connection of [...connections.values()]) connection.close();
loop.close();
console.log(`${signal}: stopped after ${served} requests.`);
