/**
 * stdout and stderr of a forked child, where they are pipes: at its birth what the parent has yet to write is forgotten,
 * at its end what the child has yet to write is written. Used by become-child.ts alone.
 */
import { nativeFork } from './native-fork.ts';

/** A reader that has taken nothing for so long is not waited for any longer, ms. */
const PATIENCE = 5000;
/** Nor is any after so long, ms. */
const LIMIT = 30_000;

/** A stream's own book, as its types do not tell. */
interface Writing {
  buffered: { chunk: Uint8Array | string; encoding: BufferEncoding | 'buffer' }[];
  bufferedIndex: number;
  length: number;
  needDrain: boolean;
  writecb: () => void;
}

/** What the parent has said, and whoever reads it has not taken yet, is the parent's to write. */
export function forgetOutput(process: Pick<NodeJS.Process, 'stdout' | 'stderr'>): void {
  // Native code has kept only requests of stdout and stderr, which libuv ends in the first turn with nothing written.
  if (nativeFork().requests() === 0) return;
  for (const stream of [process.stdout, process.stderr]) {
    const state = bookOf(stream);
    if (state === undefined || state.length === 0) continue;
    for (const { chunk } of takeBuffered(state)) state.length -= chunk.length;
    state.needDrain = false;
    state.writecb = () => {};
  }
}

/** Before an end at once: nothing turns the loop any more that would write it. */
export function finishOutput(): void {
  // What JavaScript holds back waits for a request of libuv's.
  if (nativeFork().requests() === 0) return;
  const began = performance.now();
  const lost = finish(1, '', LIMIT);
  finish(2, lost > 0 ? loss(lost) : '', Math.max(0, LIMIT - (performance.now() - began)));
}

/** The last words of a child that ends: after what it has said before. */
export function complain(text: string): void {
  finish(2, text, LIMIT);
}

function loss(bytes: number): string {
  return `forkbeard: ${bytes} bytes that process ${process.pid} wrote to stdout are lost, because nobody read them\n`;
}

function finish(fd: 1 | 2, text: string, limit: number): number {
  let rest: Uint8Array;
  try {
    const parts = heldBack(fd).map(({ chunk, encoding }) =>
      typeof chunk === 'string' ? Buffer.from(chunk, encoding as BufferEncoding) : chunk,
    );
    rest = Buffer.concat([...parts, Buffer.from(text)]);
  } catch {
    // Somebody put a stream of his own in its place, of another make.
    rest = Buffer.from(text);
  }
  return nativeFork().finishOutput(fd, rest, PATIENCE, Math.ceil(limit));
}

function heldBack(fd: 1 | 2): Writing['buffered'] {
  if (nativeFork().requests() === 0) return [];
  const stream = fd === 1 ? process.stdout : process.stderr;
  const state = bookOf(stream);
  return state === undefined || stream.fd !== fd ? [] : takeBuffered(state);
}

function takeBuffered(state: Writing): Writing['buffered'] {
  return state.buffered.splice(state.bufferedIndex);
}

function bookOf(stream: object): Writing | undefined {
  return (stream as { _writableState?: Writing })._writableState;
}
