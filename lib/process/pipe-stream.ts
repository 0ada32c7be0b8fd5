/**
 * Node streams over the descriptors that lead to a child. They are driven by the child's loop and not by handles of
 * Node's, so they flow in both of its ways of running; `runSync` would let a `net.Socket` rest, and a child that
 * fills its pipe would wait for ever. Made by spawn.ts.
 */
import { Duplex, type DuplexOptions } from 'node:stream';
import type { IoWatcher, Watcher } from '../loop/contract.ts';
import { systemError } from '../sys/errors.ts';
import * as sys from '../sys/index.ts';
import { PipeEnd } from './pipe-end.ts';
import type { Dependent, Programs } from './programs.ts';

/** As much as a pipe holds by default. */
const CHUNK = 65_536;
/** Smaller pieces are copied, so that a line of output does not keep 64 KiB alive. */
const WORTH_KEEPING = CHUNK / 4;

type Callback = (error?: Error | null) => void;

/** Which directions there are. A pipe has one; only a socket can end one and keep the other. */
export type PipeKind = 'readable' | 'writable' | 'socket';

export class PipeStream extends Duplex implements Dependent {
  readonly #programs: Programs;
  readonly #kind: PipeKind;
  readonly #end: PipeEnd;
  #ref = true;
  #reader: IoWatcher | undefined;
  #writer: IoWatcher | undefined;
  #buffer: Buffer | undefined;

  constructor(programs: Programs, fd: number, kind: PipeKind) {
    // The two that say which directions there are, are missing from the types.
    super({
      readable: kind !== 'writable',
      writable: kind !== 'readable',
      highWaterMark: CHUNK,
    } as DuplexOptions);
    this.#programs = programs;
    this.#end = new PipeEnd(fd);
    this.#kind = kind;
    programs.add(this);
  }

  /** The descriptor; -1 once it is closed. */
  get fd(): number {
    return this.#end.fd;
  }

  /** A ref'ed stream keeps the process alive while it waits for the other side. Default: ref'ed. */
  ref(): this {
    this.#ref = true;
    this.#reader?.ref();
    this.#writer?.ref();
    return this;
  }

  unref(): this {
    this.#ref = false;
    this.#reader?.unref();
    this.#writer?.unref();
    return this;
  }

  override _read(): void {
    this.#reader ??= this.#watch({ onReadReady: () => this.#receive() });
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    this.#send(chunk, callback);
  }

  override _writev(chunks: { chunk: Buffer }[], callback: Callback): void {
    this.#send(Buffer.concat(chunks.map(({ chunk }) => chunk)), callback);
  }

  override _final(callback: Callback): void {
    if (this.#kind !== 'socket') {
      // A pipe's end is told by closing it, which the stream does next.
      callback();
      return;
    }
    try {
      sys.shutdown(this.fd, 'write');
      callback();
    } catch (error) {
      // The other side is gone altogether: it has seen the end.
      const { code } = error as { code?: string };
      callback(code === 'ENOTCONN' ? null : (error as Error));
    }
  }

  override _destroy(error: Error | null, callback: Callback): void {
    this.#programs.remove(this);
    this.#reader?.stop();
    this.#writer?.stop();
    this.#buffer = undefined;
    this.#end.close();
    callback(error);
  }

  /**
   * The child has ended. What it left in a pipe that nobody reads yet, no more than a pipe holds, is taken now, so that
   * the descriptor can go though nobody ever reads. It waits in the stream for whoever comes later.
   */
  childEnded(): void {
    if (this.#kind !== 'readable' || this.readableFlowing !== null || this.listenerCount('readable') > 0)
      return;
    while (this.fd >= 0 && this.#receive()) {
      // Until its end, or until it is empty because somebody else still holds the other side.
    }
  }

  /** Nobody will read or write for it again. */
  loopClosed(): void {
    this.destroy();
  }

  #watch(handlers: { onReadReady: () => void } | { onWriteReady: () => void }): IoWatcher | undefined {
    try {
      const watcher = this.#programs.loop.watchIo(this.fd, handlers);
      if (!this.#ref) watcher.unref();
      return watcher;
    } catch (error) {
      this.destroy(error as Error);
      return undefined;
    }
  }

  /** True when something came. */
  #receive(): boolean {
    this.#buffer ??= Buffer.allocUnsafeSlow(CHUNK);
    const count = sys.read(this.fd, this.#buffer);
    if (count === -sys.EAGAIN) return false;
    if (count <= 0) {
      this.#stopReading();
      this.#buffer = undefined;
      if (count < 0) this.destroy(systemError(count, 'read', { fd: this.fd }));
      else this.#readEverything();
      return false;
    }
    let chunk = this.#buffer.subarray(0, count);
    if (count < WORTH_KEEPING) chunk = Buffer.from(chunk);
    else this.#buffer = undefined;
    if (!this.push(chunk)) this.#stopReading();
    return true;
  }

  #readEverything(): void {
    // The stream ends when what it holds has been read, if ever; a pipe's descriptor has done its work.
    if (this.#kind === 'readable') {
      this.#end.close();
      this.#programs.remove(this);
    }
    this.push(null);
  }

  #stopReading(): void {
    const reader: Watcher | undefined = this.#reader;
    this.#reader = undefined;
    reader?.stop();
  }

  /** One call at a time, so that a fast reader cannot keep the loop from everybody else. */
  #send(bytes: Buffer, callback: Callback, from = 0): void {
    const count = bytes.length === from ? 0 : sys.write(this.fd, bytes, from);
    if (count < 0 && count !== -sys.EAGAIN) {
      callback(systemError(count, 'write', { fd: this.fd }));
      return;
    }
    const at = from + Math.max(0, count);
    if (at === bytes.length) {
      callback();
      return;
    }
    this.#writer = this.#watch({
      onWriteReady: () => {
        this.#writer?.stop();
        this.#writer = undefined;
        this.#send(bytes, callback, at);
      },
    });
  }
}
