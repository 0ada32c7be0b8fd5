/**
 * Who accepts the next connection. All workers that share a listener are woken by a connection, and the one that comes
 * first is often the same one: the busiest, because it is running already. So a worker that has more connections than
 * the others have on the average lets them go first, for a moment. The figures are those of the scoreboard; nobody is
 * asked, and a worker alone never waits.
 */
import { type Entry, monotonic, type Scoreboard } from '../scoreboard.ts';

/** So many connections more than the average are no lead: evenness must not cost more than it is worth. */
const SLACK = { share: 1.1, connections: 0.5 };
/** How long one steps aside. ms */
export const ASIDE = 1;
/** A worker that has not come round for so long would not accept either. ms */
const STALE = 1000;
/** For so long the last look at the board is good enough. ms */
const FRESH = 1;

export class Fairness {
  readonly #own: Entry;
  readonly #others: readonly Entry[];
  #lookedAt = 0;
  /** Connections of the others, on the average; Infinity when there are no others. */
  #average = Number.POSITIVE_INFINITY;

  constructor(board: Scoreboard, own: Entry) {
    this.#own = own;
    this.#others = board.all().filter(({ index }) => index !== own.index);
  }

  /** Others should go first. */
  get ahead(): boolean {
    const connections = this.#own.get('connections');
    if (connections === 0) return false;
    const now = performance.now();
    if (now - this.#lookedAt >= FRESH) {
      this.#lookedAt = now;
      this.#average = this.#look();
    }
    return connections > this.#average * SLACK.share + SLACK.connections;
  }

  #look(): number {
    const since = monotonic() - STALE;
    let connections = 0;
    let count = 0;
    for (const other of this.#others) {
      if (other.get('accepting') !== 1 || other.get('paused') !== 0 || other.get('beat') < since) continue;
      connections += other.get('connections');
      count++;
    }
    return count === 0 ? Number.POSITIVE_INFINITY : connections / count;
  }
}
