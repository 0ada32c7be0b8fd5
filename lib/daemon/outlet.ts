/**
 * Standard output that stops nobody. Whoever reads it may be slow, stopped or gone (a pipe that is full, a terminal that
 * was told to wait): what it does not take waits here, up to a limit, and is written when there is room. What is too much
 * is counted and told once it flows again. Whole lines in, whole lines out. Used by `log.ts` and by what draws on a
 * terminal; one for a process.
 */
import { constants, fstatSync, openSync, type Stats } from 'node:fs';
import type { IoWatcher } from '../loop/contract.ts';
import { Loop } from '../process/loop.ts';
import { dup, EAGAIN, setNonBlocking, write } from '../sys/index.ts';

/** What waits at most. bytes */
const LIMIT = 1024 * 1024;
/** After lines were lost there are no others before there is so much room again. bytes */
const ROOM = LIMIT / 2;
/** At the end, a reader that has taken nothing for so long is not waited for any longer, nor any after so long. ms */
const PATIENCE = 2000;
const PATIENCE_IN_ALL = 10_000;

export class Outlet {
  /** Told of how many lines were lost, when there is room to say so. */
  onLost: (lines: number) => void = () => {};
  readonly #loop: Loop;
  /** A forked child has its parent's words here, and they are not its own. */
  readonly #process = process.pid;
  readonly #fd: number;
  /** Its open file is others' as well, who may make it wait again: a Node that ends leaves it as it was when it began. */
  readonly #shared: boolean;
  readonly #waiting: Uint8Array[] = [];
  #bytes = 0;
  #lost = 0;
  #watcher: IoWatcher | undefined;
  /** Nobody is there any more. */
  #gone = false;
  /** What has been taken so far, to tell a slow reader from none. bytes */
  #taken = 0;
  /** While the program stays for its reader alone. */
  #patience: Disposable | undefined;

  /** Of a descriptor, which stays the caller's. */
  constructor(loop: Loop, fd: number) {
    this.#loop = loop;
    ({ fd: this.#fd, shared: this.#shared } = ownDescriptor(fd));
    process.on('beforeExit', () => this.#finish());
    process.on('exit', () => {
      if (this.#process === process.pid) this.#flush();
    });
  }

  /** Something waits for its reader. */
  get stalled(): boolean {
    return this.#waiting.length > 0;
  }

  /** Lines, each with its end. */
  write(text: string): void {
    if (this.#gone || this.#process !== process.pid) return;
    if (this.#lost > 0 && this.#bytes <= ROOM) this.#tellLost();
    const bytes = Buffer.from(text);
    if (this.#lost > 0 || this.#bytes + bytes.length > LIMIT) {
      this.#lost += Math.max(1, text.split('\n').length - 1);
      return;
    }
    this.#waiting.push(bytes);
    this.#bytes += bytes.length;
    if (this.#watcher === undefined) this.#flush();
  }

  /** Writes as much as is taken without waiting. */
  #flush(): void {
    if (this.#shared && this.#waiting.length > 0) setNonBlocking(this.#fd, true);
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const taken = write(this.#fd, next);
      if (taken === -EAGAIN) break;
      if (taken < 0) {
        this.#abandon();
        return;
      }
      this.#taken += taken;
      this.#bytes -= taken;
      if (taken < next.length) this.#waiting[0] = next.subarray(taken);
      else this.#waiting.shift();
    }
    if (this.#lost > 0 && this.#bytes <= ROOM) this.#tellLost();
    this.#await();
  }

  #tellLost(): void {
    const lost = this.#lost;
    this.#lost = 0;
    this.onLost(lost);
  }

  #await(): void {
    if (this.#waiting.length === 0) {
      this.#watcher?.stop();
      this.#watcher = undefined;
      this.#patience?.[Symbol.dispose]();
      this.#patience = undefined;
    } else if (this.#watcher === undefined && !this.#gone) {
      this.#watcher = this.#loop.watchIo(this.#fd, { onWriteReady: () => this.#flush() }).unref();
    }
  }

  #abandon(): void {
    this.#gone = true;
    this.#waiting.length = 0;
    this.#bytes = 0;
    this.#lost = 0;
    this.#await();
  }

  /** The program has nothing else to do: it stays for its reader, as long as he reads. */
  #finish(): void {
    if (this.#process !== process.pid || !this.stalled) return;
    const began = performance.now();
    const look = (before: number) => {
      this.#patience = this.#loop.watchTime({ after: PATIENCE }, () => {
        const isLong = performance.now() - began > PATIENCE_IN_ALL;
        if (isLong || this.#taken === before) this.#abandon();
        else look(this.#taken);
      });
    };
    look(this.#taken);
  }
}

let ours: Outlet | undefined;

/** This process's. */
export function standardOutput(): Outlet {
  ours ??= new Outlet(Loop.current(), 1);
  return ours;
}

/**
 * One that does not wait, of our own where that can be had: O_NONBLOCK belongs to all who share an open file, and the
 * application's processes write there as well. A file on a disk takes what it is given.
 */
function ownDescriptor(fd: number): { fd: number; shared: boolean } {
  const kind = kindOf(fd);
  if (kind === undefined || kind.isFile()) return { fd, shared: false };
  if (kind.isFIFO() || kind.isCharacterDevice()) {
    try {
      const flags = constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
      return { fd: openSync(`/proc/self/fd/${fd}`, flags), shared: false };
    } catch {
      // Another user's, or no /proc. A terminal is the shell's, too, which expects it to wait.
      if (kind.isCharacterDevice()) return { fd, shared: false };
    }
  }
  return { fd: dup(fd), shared: true };
}

/** Undefined when it is closed: then every write fails, and nobody misses it. */
function kindOf(fd: number): Stats | undefined {
  try {
    return fstatSync(fd);
  } catch {
    return undefined;
  }
}
