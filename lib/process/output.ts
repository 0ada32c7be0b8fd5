/**
 * stdout and stderr of a forked child: at its birth what the parent has yet to write is forgotten, at its end what the
 * child has yet to write is written. Something is left over where they are pipes, and where somebody has corked them.
 * Used by become-child.ts and way-out.ts.
 */
import { isLoaded } from './loaded.ts';
import { nativeFork, OUTPUT_FILE, OUTPUT_STREAM } from './native-fork.ts';

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

type Streams = Pick<typeof process, 'stdout' | 'stderr'>;

/** What the parent has said, and whoever reads it has not taken yet, is the parent's to write. */
export function forgetOutput(process: Streams): void {
  for (const fd of [1, 2] as const) {
    const stream = streamOf(process, fd);
    const state = bookOf(stream);
    if (stream === undefined || state === undefined) continue;
    if (state.length > 0) {
      for (const { chunk } of takeBuffered(state)) state.length -= chunk.length;
      state.needDrain = false;
      // Native code has kept only requests of stdout and stderr, which libuv ends in the first turn with nothing written.
      if (nativeFork().requests() > 0) state.writecb = () => {};
    }
    // Who corked it takes the cork out in the parent.
    while (stream.writableCorked > 0) stream.uncork();
  }
}

/** Before an end at once: nothing turns the loop any more that would write it. */
export function finishOutput(): void {
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
    // As a rule all has been written.
    if (parts.length === 0 && text === '' && nativeFork().requests() === 0) return 0;
    rest = Buffer.concat([...parts, Buffer.from(text)]);
  } catch {
    // Somebody put a stream of his own in its place, of another make.
    rest = Buffer.from(text);
  }
  return nativeFork().finishOutput(fd, rest, PATIENCE, Math.ceil(limit));
}

/** What waits in JavaScript, behind a request of libuv's or because the stream is corked. */
function heldBack(fd: 1 | 2): Writing['buffered'] {
  const stream = streamOf(process, fd);
  const state = bookOf(stream);
  return state === undefined || stream?.fd !== fd ? [] : takeBuffered(state);
}

/** Not before somebody has used it: looking makes it, and changes the descriptor for all who share it. */
function streamOf(process: Streams, fd: 1 | 2): (NodeJS.WriteStream & { fd: number }) | undefined {
  const kind = nativeFork().outputKind(fd);
  if (kind !== OUTPUT_STREAM && !(kind === OUTPUT_FILE && isLoaded('internal/fs/sync_write_stream'))) {
    return undefined;
  }
  return fd === 1 ? process.stdout : process.stderr;
}

function takeBuffered(state: Writing): Writing['buffered'] {
  return state.buffered.splice(state.bufferedIndex);
}

function bookOf(stream: object | null | undefined): Writing | undefined {
  return (stream as { _writableState?: Writing } | null | undefined)?._writableState;
}
