/**
 * What follows when a worker has ended whom nobody had asked to: the consequences that `policy.ts` lists, with what has
 * happened before at the same place. Told of each such end by `server.ts`, which carries out what it asks for.
 */
import type { ExitCause, PreforkEvents } from '../contract.ts';
import { monotonic } from '../scoreboard.ts';
import { Backoff, STABLE } from './backoff.ts';
import { GIVE_UP_AFTER, POLICY } from './policy.ts';
import type { Member, Pool } from './pool.ts';
import type { Renewals } from './renewals.ts';

export interface AftermathHost {
  /** Workers are forked, and could be spawned. */
  canSpawnInstead(): boolean;
  cannotFork(reason: string): void;
  canBeFewer(): boolean;
  resize(workers: number): void;
  /** There is nothing to go on for. */
  giveUp(exitCode: number, message: string): void;
  onBackoff(backoff: PreforkEvents['backoff'][0]): void;
  onWarning(message: string): void;
}

export class Aftermath {
  readonly #pool: Pool;
  readonly #renewals: Renewals;
  readonly #host: AftermathHost;
  /** By place. */
  readonly #backoffs = new Map<number, Backoff>();
  /** Failures in a row while no worker was ever ready. */
  #early = 0;
  #everReady = false;

  constructor(pool: Pool, renewals: Renewals, host: AftermathHost) {
    this.#pool = pool;
    this.#renewals = renewals;
    this.#host = host;
  }

  /** The application works: from now on nothing ends the server that is one worker's alone. */
  anyReady(): void {
    this.#everReady = true;
  }

  /** `service`: ms since it was ready, if it was. */
  follow(
    { place, generation }: Member,
    cause: ExitCause,
    message: string,
    service: number | undefined,
  ): void {
    if (!this.#pool.open) return;
    if (this.#renewals.failed(generation, service !== undefined, message)) return;
    if (!this.#everReady && this.failedEarly(cause, message)) return;
    const { respawn, oneFewer, spawnInstead } = POLICY[cause];
    if (spawnInstead && this.#host.canSpawnInstead()) {
      this.#host.cannotFork(message);
      return;
    }
    if (oneFewer && this.#host.canBeFewer()) {
      this.#host.onWarning(`There are not enough descriptors for ${this.#pool.target} workers`);
      this.#host.resize(this.#pool.target - 1);
    }
    const backoff = this.#backoffOf(place);
    if (service !== undefined && service > STABLE) backoff.reset();
    if (respawn === 'never') {
      this.#abandon(place, cause, message);
    } else if (respawn !== 'at-once' || service === undefined) {
      const delay = backoff.failed(respawn === 'long' ? 'long' : cause === 'operator' ? 'killed' : 'soon');
      if (delay === 0) return;
      this.#host.onBackoff({ worker: place, cause, delay, failures: backoff.failures });
      this.#pool.postpone(place, monotonic() + delay);
    }
  }

  /** No worker was ever ready. True when that was the end of it. */
  failedEarly(cause: ExitCause, message: string): boolean {
    const { beforeReady, exitCode } = POLICY[cause];
    if (beforeReady !== 'stop' && ++this.#early < GIVE_UP_AFTER) return false;
    this.#host.giveUp(exitCode, message);
    return true;
  }

  #abandon(place: number, cause: ExitCause, message: string): void {
    this.#pool.postpone(place, Number.POSITIVE_INFINITY);
    this.#host.onWarning(`Place ${place} stays empty: ${message}`);
    if (this.#pool.members.length === 0 && this.#pool.nextStart === Number.POSITIVE_INFINITY) {
      this.#host.giveUp(POLICY[cause].exitCode, message);
    }
  }

  #backoffOf(place: number): Backoff {
    const known = this.#backoffs.get(place);
    if (known !== undefined) return known;
    const backoff = new Backoff();
    this.#backoffs.set(place, backoff);
    return backoff;
  }
}
