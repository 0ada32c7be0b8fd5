/**
 * One end of a channel between two processes of a server: packets of JSON, with descriptors beside them, over a
 * `SOCK_SEQPACKET` pair. The end of the other process is the end of the channel, however it ended.
 */
import type { IoWatcher } from '../loop/contract.ts';
import type { Loop } from '../process/loop.ts';
import { close, receiveDescriptors, sendDescriptors, socketpair } from '../sys/index.ts';

/** A packet must fit the socket's buffer; a message is far from that. */
const MAX_PACKET = 128 * 1024;

const buffer = new Uint8Array(MAX_PACKET);
const encoder = new TextEncoder();
const decoder = new TextDecoder();

export interface ChannelHandlers<In> {
  /** `descriptors` belong to the handler, which closes them. */
  onMessage(message: In, descriptors: number[]): void;
  /** The other end is gone, or talks nonsense: it is not listened to any more. Called once, not after `close`. */
  onEnd(): void;
}

interface Packet {
  bytes: Uint8Array;
  descriptors: readonly number[];
}

export class Channel<In, Out> {
  readonly fd: number;
  readonly #handlers: ChannelHandlers<In>;
  readonly #watcher: IoWatcher;
  readonly #loop: Loop;
  readonly #waiting: Packet[] = [];
  #writable: IoWatcher | undefined;
  #open = true;

  /** Takes over `fd`. Reads from the next round of the loop on. */
  constructor(loop: Loop, fd: number, handlers: ChannelHandlers<In>) {
    this.fd = fd;
    this.#loop = loop;
    this.#handlers = handlers;
    this.#watcher = loop.watchIo(fd, { onReadReady: () => this.#receive() });
  }

  get open(): boolean {
    return this.#open;
  }

  /**
   * Gives the descriptors of `give` away: they are closed here once the kernel has taken the packet, which is later only
   * while the other end does not read. To an end that is gone, nothing is sent.
   */
  send(message: Out, give: readonly number[] = []): void {
    const packet = { bytes: encoder.encode(JSON.stringify(message)), descriptors: give };
    if (!this.#open) closeAll(give);
    else if (this.#waiting.length > 0 || !this.#trySend(packet)) this.#wait(packet);
  }

  /** A channel does not keep its process alive unless told so. */
  ref(): this {
    this.#watcher.ref();
    return this;
  }

  unref(): this {
    this.#watcher.unref();
    return this;
  }

  /** For the end of a process whose last words may still be on their way: reads them, then closes. */
  finish(): void {
    if (this.#open) this.#receive();
    this.close();
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#watcher.stop();
    this.#writable?.stop();
    close(this.fd);
    for (const { descriptors } of this.#waiting) closeAll(descriptors);
    this.#waiting.length = 0;
  }

  #receive(): void {
    for (let packet = this.#take(); packet !== undefined; packet = this.#open ? this.#take() : undefined) {
      let message: In;
      try {
        message = JSON.parse(packet.text) as In;
      } catch {
        closeAll(packet.descriptors);
        this.#end();
        return;
      }
      this.#handlers.onMessage(message, packet.descriptors);
    }
  }

  /** Undefined when there is no more for now, or for ever. */
  #take(): { text: string; descriptors: number[] } | undefined {
    try {
      const { bytes, descriptors } = receiveDescriptors(this.fd, buffer);
      if (bytes > 0) return { text: decoder.decode(buffer.subarray(0, bytes)), descriptors };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return undefined;
    }
    this.#end();
    return undefined;
  }

  #trySend(packet: Packet): boolean {
    try {
      sendDescriptors(this.fd, packet.bytes, packet.descriptors);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return false;
      // The other end is gone: what was to be read from it is still read, and then its end is told.
    }
    closeAll(packet.descriptors);
    return true;
  }

  #wait(packet: Packet): void {
    this.#waiting.push(packet);
    this.#writable ??= this.#loop.watchIo(this.fd, { onWriteReady: () => this.#flush() });
  }

  #flush(): void {
    for (let packet = this.#waiting[0]; packet !== undefined; packet = this.#waiting[0]) {
      if (!this.#trySend(packet)) return;
      this.#waiting.shift();
    }
    this.#writable?.stop();
    this.#writable = undefined;
  }

  #end(): void {
    this.close();
    this.#handlers.onEnd();
  }
}

/** Two ends: one for this process, one to give away. */
export function channelPair(): [mine: number, theirs: number] {
  return socketpair('seqpacket');
}

function closeAll(descriptors: readonly number[]): void {
  for (const fd of descriptors) close(fd);
}
