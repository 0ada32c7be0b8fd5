/**
 * Who accepts the next connection. All workers that share a listener are woken by a connection, and the one that comes
 * first is often the same one: the busiest, because it is running already. So a worker that has more connections than
 * the others have on the average lets them go first, for a moment. The figures are those of the scoreboard; nobody is
 * asked, and a worker alone never waits.
 */
import { type Entry, monotonic } from '../scoreboard.ts';

/**
 * So many connections more than the average are no lead: evenness must not cost more than it is worth. Of connections of
 * one request each some are always on their way out. Where there are few, each of them counts: two clients that stay
 * are one for each of two workers.
 */
const SLACK = { share: 1.1, connections: 4, ofFew: 0.5 };
/** From here on the share is uneven enough to close connections for it. */
const SURPLUS = { share: 1.25, connections: 2 };
/** How long one steps aside: a moment for each connection of the lead, which busy others need to come round. ms */
const ASIDE = { least: 1, most: 10 };
/** A worker that has not come round for so long would not accept either. ms */
const STALE = 300;
/** For so long the last look at the board is good enough. ms */
const FRESH = 1;

export class Fairness {
  readonly #own: Entry;
  readonly #others: readonly Entry[];
  #lookedAt = 0;
  /** Connections of the others, on the average; Infinity when there are no others. */
  #average = Number.POSITIVE_INFINITY;
  /** How many others there are. */
  #count = 0;

  /** `sharers`: whoever accepts from the same listeners. */
  constructor(own: Entry, sharers: readonly Entry[]) {
    this.#own = own;
    this.#others = sharers.filter(({ index }) => index !== own.index);
  }

  /** For how long others should go first; 0: not at all. ms */
  get aside(): number {
    const connections = this.#own.get('connections');
    if (connections === 0) return 0;
    this.#lookAgain();
    const slack = Math.min(SLACK.connections, this.#average * SLACK.ofFew);
    const lead = connections - (this.#average * SLACK.share + slack);
    return lead > 0 ? Math.min(Math.max(lead, ASIDE.least), ASIDE.most) : 0;
  }

  /**
   * Connections that would be better off elsewhere: those that stay open keep a share as it once was, with a worker that
   * has come since, or come back, left without work.
   */
  get surplus(): number {
    const connections = this.#own.get('connections');
    this.#lookAgain();
    if (connections <= this.#average * SURPLUS.share + SURPLUS.connections) return 0;
    // What makes all alike.
    return Math.ceil(((connections - this.#average) * this.#count) / (this.#count + 1));
  }

  #lookAgain(): void {
    const now = performance.now();
    if (now - this.#lookedAt < FRESH) return;
    this.#lookedAt = now;
    this.#average = this.#look();
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
    this.#count = count;
    return count === 0 ? Number.POSITIVE_INFINITY : connections / count;
  }
}
