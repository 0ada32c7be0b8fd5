/**
 * The supervisor's end of its conversation with a shim: frames over a stream socket, as native/shim/wire.h has them.
 * Used by shim.ts alone, which knows what is in them. Every end of the connection is one event, whatever its cause.
 */
import type { IoWatcher } from '../loop/contract.ts';
import type { Loop } from '../process/loop.ts';
import * as sys from '../sys/index.ts';
import { closeWithThread } from '../sys/thread-end.ts';

const HEAD = 5;
/** Read in one turn of the loop: the rest waits, and in the end whoever says so much, so that the others have their turns. */
const CHUNK = 16_384;
/** No frame of a shim's is as large. What announces more is none. */
const LARGEST = 1 << 20;

export interface WireHandlers {
  /** `body` is the handler's to keep. */
  onFrame(kind: string, body: Buffer): void;
  /** The other end is gone. Once, and not after `close`. */
  onEnd(): void;
  /** Descriptors that came beside the first bytes, and before them; the handler's. Without this nobody wants any. */
  onDescriptors?(fds: readonly number[]): void;
}

export class Wire {
  readonly #loop: Loop;
  readonly #fd: number;
  readonly #handlers: WireHandlers;
  readonly #reader: IoWatcher;
  #writer: IoWatcher | undefined;
  #in = Buffer.alloc(0);
  #out: Buffer[] = [];
  #open = true;
  #isFirst = true;

  /** Takes over `fd`, unless it throws. */
  constructor(loop: Loop, fd: number, handlers: WireHandlers) {
    this.#loop = loop;
    this.#fd = fd;
    this.#handlers = handlers;
    closeWithThread(fd, true);
    try {
      this.#reader = loop.watchIo(fd, { onReadReady: () => this.#receive() });
    } catch (error) {
      closeWithThread(fd, false);
      throw error;
    }
  }

  get open(): boolean {
    return this.#open;
  }

  ref(): this {
    this.#reader.ref();
    return this;
  }

  unref(): this {
    this.#reader.unref();
    return this;
  }

  /** To an end that is gone, nothing is sent. */
  send(kind: string, body: Uint8Array = new Uint8Array()): void {
    if (!this.#open) return;
    const head = Buffer.alloc(HEAD);
    head.writeUInt32LE(body.length, 0);
    head.write(kind, 4, 'latin1');
    this.#out.push(Buffer.concat([head, body]));
    if (this.#writer === undefined) this.#flush();
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#reader.stop();
    this.#writer?.stop();
    this.#out = [];
    closeWithThread(this.#fd, false);
    sys.close(this.#fd);
  }

  #receive(): void {
    const chunk = Buffer.allocUnsafe(CHUNK);
    const count = this.#isFirst ? this.#first(chunk) : sys.read(this.#fd, chunk);
    if (count === -sys.EAGAIN) return;
    if (count <= 0) {
      this.close();
      this.#handlers.onEnd();
      return;
    }
    this.#in = Buffer.concat([this.#in, chunk.subarray(0, count)]);
    let at = 0;
    while (this.#open && this.#in.length - at >= HEAD) {
      const length = this.#in.readUInt32LE(at);
      if (length > LARGEST) {
        this.close();
        this.#handlers.onEnd();
        return;
      }
      const end = at + HEAD + length;
      if (this.#in.length < end) break;
      const kind = String.fromCharCode(this.#in[at + 4] as number);
      const body = Buffer.from(this.#in.subarray(at + HEAD, end));
      at = end;
      this.#handlers.onFrame(kind, body);
    }
    this.#in = this.#in.subarray(at);
  }

  #first(chunk: Buffer): number {
    const { onDescriptors } = this.#handlers;
    if (onDescriptors === undefined) return sys.read(this.#fd, chunk);
    try {
      const { bytes, descriptors } = sys.receiveDescriptors(this.#fd, chunk);
      this.#isFirst = false;
      if (descriptors.length > 0) onDescriptors(descriptors);
      return bytes;
    } catch (error) {
      return (error as NodeJS.ErrnoException).errno ?? -sys.EAGAIN;
    }
  }

  #flush(): void {
    for (let first = this.#out[0]; first !== undefined; first = this.#out[0]) {
      const count = sys.send(this.#fd, first);
      if (count === -sys.EAGAIN) {
        this.#writer ??= this.#loop.watchIo(this.#fd, { onWriteReady: () => this.#flush() });
        return;
      }
      // Gone: what it said before is still to be read, and then its end is told.
      if (count < 0) this.#out = [];
      else if (count < first.length) this.#out[0] = first.subarray(count);
      else this.#out.shift();
    }
    this.#writer?.stop();
    this.#writer = undefined;
  }
}
