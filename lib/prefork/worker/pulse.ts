/**
 * A worker's pulse: ten times a second it writes into its entry of the scoreboard that its event loop still turns, how
 * late that was, and how large the heap is. The monitor takes a pulse that stops for a blocked loop.
 */
import { clearInterval, setInterval } from 'node:timers';
import { getHeapStatistics } from 'node:v8';
import { type Entry, monotonic } from '../scoreboard.ts';

/** ms */
export const PULSE = 100;
/** Heaps change slowly, and asking takes a moment. */
const BEATS_PER_HEAP = 10;

export class Pulse {
  readonly #entry: Entry;
  readonly #timer: NodeJS.Timeout;
  readonly #onBeat: () => void;
  #last = monotonic();
  #beats = 0;

  constructor(entry: Entry, onBeat: () => void) {
    this.#entry = entry;
    this.#onBeat = onBeat;
    this.#timer = setInterval(() => this.#beat(), PULSE).unref();
    entry.set('beat', this.#last);
    this.#weigh();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #beat(): void {
    const now = monotonic();
    this.#entry.set('lag', Math.max(0, now - this.#last - PULSE));
    this.#entry.set('beat', now);
    this.#last = now;
    // It hung, was asked for its stack, and came back.
    if (this.#entry.get('stackRequest') !== 0) {
      this.#entry.set('stackRequest', 0);
      this.#entry.write('stack', '');
    }
    if (++this.#beats % BEATS_PER_HEAP === 0) this.#weigh();
    this.#onBeat();
  }

  #weigh(): void {
    const { used_heap_size, heap_size_limit } = getHeapStatistics();
    this.#entry.set('heapUsed', used_heap_size);
    this.#entry.set('heapLimit', heap_size_limit);
  }
}
