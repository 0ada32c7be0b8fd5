/**
 * Who accepts the next connection. All workers that share a listener are woken by a connection, and the one that comes
 * first is often the same one: the busiest, because it is running already. So a worker that has more connections than
 * the others have on the average lets them go first, for a moment. The figures are those of the scoreboard; nobody is
 * asked, and a worker alone never waits.
 */
import { type Entry, monotonic } from '../scoreboard.ts';

/** So many connections more than the average are no lead: evenness must not cost more than it is worth. */
const SLACK = { share: 1.1, connections: 1 };
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

  /** `sharers`: whoever accepts from the same listeners. */
  constructor(own: Entry, sharers: readonly Entry[]) {
    this.#own = own;
    this.#others = sharers.filter(({ index }) => index !== own.index);
  }

  /** For how long others should go first; 0: not at all. ms */
  get aside(): number {
    const connections = this.#own.get('connections');
    if (connections === 0) return 0;
    const now = performance.now();
    if (now - this.#lookedAt >= FRESH) {
      this.#lookedAt = now;
      this.#average = this.#look();
    }
    const lead = connections - (this.#average * SLACK.share + SLACK.connections);
    return lead > 0 ? Math.min(Math.max(lead, ASIDE.least), ASIDE.most) : 0;
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
