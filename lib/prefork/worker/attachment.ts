/**
 * A worker's server and the listeners that the monitor bound: connections are accepted here and given
 * to the server as if it had accepted them. A connection is taken only when there is room for it: all others wait in
 * the kernel, where another worker finds them. To the application its server looks as if it listened itself.
 */
import { Socket as NetSocket, type Server, type Socket } from 'node:net';
import type { IoWatcher, TimeWatcher } from '../../loop/contract.ts';
import type { Loop } from '../../process/loop.ts';
import { EMFILE, ENFILE, ENOBUFS, ENOMEM } from '../../sys/errno.ts';
import { systemError } from '../../sys/errors.ts';
import { accept, close, dup, localAddress } from '../../sys/index.ts';
import { type Entry, PAUSES, type Pause } from '../scoreboard.ts';
import type { Fairness } from './fairness.ts';
import { forgetListening, lendHandle, stopListening } from './lent-handle.ts';

/** How long to leave it alone when there was no descriptor for a connection. ms */
const WITHOUT_DESCRIPTORS = 500;

/**
 * Connections that are accepted in one turn at most, if they are waiting. Each of them asks whether others should go first.
 * With few, a thousand clients that come at once wait for seconds: a turn of a busy worker is long.
 */
const BATCH = 64;

/** What the kernel lacks when it cannot make a connection's descriptor. Everything else is a connection's own misfortune. */
const SHORTAGES = new Set([-EMFILE, -ENFILE, -ENOBUFS, -ENOMEM]);
const UNUSABLE = new Set(['EBADF', 'EINVAL', 'ENOTSOCK', 'EOPNOTSUPP', 'EFAULT']);

export interface AttachmentOptions {
  loop: Loop;
  server: Server;
  /** Their descriptors; they are closed with the attachment. */
  listeners: readonly number[];
  entry: Entry;
  fairness: Fairness;
  /** What there is too much of for another connection; '' when there is room. */
  lack(connections: number): Pause;
  onPaused(): void;
  onResumed(): void;
  onAccepted(socket: Socket): void;
  onClosed(socket: Socket): void;
}

/** Open, or why not: it lets others go first, it lacks something, it will never accept again. */
type Gate = 'open' | 'aside' | Exclude<Pause, ''> | 'shut';

export class Attachment {
  readonly #options: AttachmentOptions;
  readonly #onSocketClose: (this: Socket) => void;
  #whenEmpty: (() => void) | undefined;
  #watchers: IoWatcher[] = [];
  #gate: Gate = 'open';
  #retry: TimeWatcher | undefined;
  /** Has let others go first for the connection that waits. */
  #stoodAside = false;
  readonly #sockets = new Set<Accepted>();
  #accepted = 0;

  constructor(options: AttachmentOptions) {
    this.#options = options;
    const address = localAddress(options.listeners[0] as number);
    const attachment = this;
    this.#onSocketClose = function () {
      attachment.#closed(this);
    };
    lendHandle(options.server, address, () => this.stop());
    this.#watch();
    options.entry.set('accepting', 1);
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** Fulfilled when there is no connection left. For once it is stopped. */
  get empty(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#sockets.size === 0) resolve();
      else this.#whenEmpty = resolve;
    });
  }

  /** Room may have been made. */
  reconsider(): void {
    if (this.#gate !== 'connections' && this.#gate !== 'requests') return;
    if (this.#options.lack(this.#sockets.size) === '') this.#open();
  }

  /** Accepts nothing any more; connections live on. What waits in the kernel is for the other workers. */
  stop(): void {
    if (this.#gate === 'shut') return;
    this.#unwatch();
    this.#retry?.stop();
    this.#gate = 'shut';
    this.#options.entry.set('accepting', 0);
    for (const fd of this.#options.listeners) close(fd);
    stopListening(this.#options.server);
  }

  /** In a mold that was a worker: the server is as it was before, and its connections are none of its own. */
  disown(): void {
    this.#gate = 'shut';
    for (const socket of this.#sockets) {
      socket.removeListener('close', this.#onSocketClose);
      socket._server = null;
    }
    this.#sockets.clear();
    forgetListening(this.#options.server);
  }

  #watch(): void {
    const { loop, listeners } = this.#options;
    const handlers = { onReadReady: (fd: number) => this.#onConnection(fd) };
    this.#watchers = listeners.map((fd) => loop.watchIo(fd, handlers, { exclusive: true }));
  }

  #unwatch(): void {
    for (const watcher of this.#watchers) watcher.stop();
    this.#watchers = [];
  }

  #onConnection(listener: number): void {
    const { fairness } = this.#options;
    for (let taken = 0; this.#gate === 'open' && taken < BATCH; taken++) {
      const lack = this.#options.lack(this.#sockets.size);
      if (lack !== '') this.#shut(lack);
      else if (fairness.aside > 0 && !this.#stoodAside) this.#standAside(fairness.aside);
      else if (!this.#accept(listener)) break;
      else this.#stoodAside = false;
    }
  }

  /** False when nobody was waiting, or there is nothing to make a connection of. */
  #accept(listener: number): boolean {
    const fd = accept(listener);
    if (fd >= 0) {
      this.#take(fd);
      return true;
    }
    if (SHORTAGES.has(fd)) this.#runShort();
    const error = systemError(fd, 'accept', { fd: listener });
    if (UNUSABLE.has(String(error.code))) throw error;
    return false;
  }

  /** What net.Server does with a connection. */
  #take(fd: number): void {
    const server = this.#options.server as Server & ServerInternals;
    let socket: Accepted;
    try {
      socket = new NetSocket({
        fd,
        allowHalfOpen: server.allowHalfOpen === true,
        readable: true,
        writable: true,
      });
    } catch {
      close(fd);
      return;
    }
    // Both mean nothing to a unix socket.
    if (server.noDelay === true) socket.setNoDelay(true);
    if (server.keepAlive === true) socket.setKeepAlive(true, server.keepAliveInitialDelay);
    server._connections++;
    socket.server = server;
    socket._server = server;
    socket.on('close', this.#onSocketClose);
    this.#sockets.add(socket);
    this.#count();
    this.#options.entry.set('accepted', ++this.#accepted);
    this.#options.onAccepted(socket);
    server.emit('connection', socket);
  }

  #closed(socket: Socket): void {
    this.#sockets.delete(socket);
    this.#count();
    this.#options.onClosed(socket);
    if (this.#gate === 'descriptors') this.#tryDescriptors();
    else if (this.#gate === 'aside') this.#returnIfEven();
    else this.reconsider();
    if (this.#sockets.size === 0) this.#whenEmpty?.();
  }

  #count(): void {
    this.#options.entry.set('connections', this.#sockets.size);
  }

  // --------------------------------------------------------------------------------- opening and shutting

  #shut(gate: Exclude<Gate, 'open' | 'shut'>): void {
    this.#unwatch();
    this.#gate = gate;
    if (gate !== 'aside') this.#options.entry.set('paused', PAUSES.indexOf(gate));
  }

  #open(): void {
    this.#gate = 'open';
    this.#options.entry.set('paused', 0);
    this.#watch();
  }

  #standAside(after: number): void {
    this.#shut('aside');
    // If nobody else has taken it by then, it is ours.
    this.#stoodAside = true;
    this.#retry = this.#options.loop.watchTime({ after }, () => this.#open());
  }

  /** The lead may be gone before the time is over. */
  #returnIfEven(): void {
    if (this.#options.fairness.aside > 0) return;
    this.#retry?.stop();
    this.#open();
  }

  #runShort(): void {
    this.#shut('descriptors');
    this.#options.onPaused();
    this.#tryLater();
  }

  #tryLater(): void {
    this.#retry = this.#options.loop.watchTime({ after: WITHOUT_DESCRIPTORS }, () => this.#tryDescriptors());
  }

  /** Whether a descriptor is to be had is found out by making one. */
  #tryDescriptors(): void {
    this.#retry?.stop();
    try {
      close(dup(this.#options.listeners[0] as number));
    } catch {
      this.#tryLater();
      return;
    }
    this.#open();
    this.#options.onResumed();
  }
}

type Accepted = Socket & { server?: Server; _server?: Server | null };

/** Parts of net.Server that its types do not tell. */
interface ServerInternals {
  _connections: number;
  allowHalfOpen?: boolean;
  noDelay?: boolean;
  keepAlive?: boolean;
  keepAliveInitialDelay?: number;
}
