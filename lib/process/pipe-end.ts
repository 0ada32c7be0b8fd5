/**
 * PipeEnd: our end of a pipe to a child, as a thing that somebody owns. Closed once; and all of a thread's are known,
 * because a forked child has copies, and a copy of an end that is closed here would keep the other side from seeing it.
 */
import { close } from '../sys/index.ts';

/** Those that are open in this process. */
export const pipeEnds = new Set<PipeEnd>();

export class PipeEnd {
  #fd: number;

  /** Takes the descriptor over. */
  constructor(fd: number) {
    this.#fd = fd;
    pipeEnds.add(this);
  }

  /** -1 once it is closed. */
  get fd(): number {
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  disown(isOpen: boolean): void {
    if (isOpen) close(this.#fd);
    this.#fd = -1;
  }

  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    pipeEnds.delete(this);
    close(fd);
  }
}

/**
 * For a forked child, before anything else runs in it: none of the parent's ends is its own. `areOpen`: nobody has
 * closed them yet; else their numbers may be somebody else's by now.
 */
export function disownEnds(ends: Set<PipeEnd>, areOpen: boolean): void {
  for (const end of ends) end.disown(areOpen);
  ends.clear();
}
