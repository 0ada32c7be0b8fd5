/**
 * How the server stands: its state, how its workers have ended so far, and both as others want to hear of them: `status()`
 * for programs, a sentence for systemd. `server.ts` moves the state on.
 */
import { stateError } from '../../sys/errors.ts';
import type { ExitCause, PreforkStatus } from '../contract.ts';
import type { Plan } from '../plan.ts';
import type { Crew } from './crew.ts';
import { type Listeners, nameOf } from './listeners.ts';
import type { Pool } from './pool.ts';

export class Standing {
  state: PreforkStatus['state'] = 'starting';
  /** Why workers come to be as they do, where that was not asked for. */
  reason = '';
  readonly #plan: Plan;
  readonly #pool: Pool;
  readonly #crew: Crew;
  readonly #listeners: Listeners;
  readonly #exits: Partial<Record<ExitCause, number>> = {};

  constructor(plan: Plan, pool: Pool, crew: Crew, listeners: Listeners) {
    this.#plan = plan;
    this.#pool = pool;
    this.#crew = crew;
    this.#listeners = listeners;
  }

  get isStopping(): boolean {
    return this.state === 'stopping' || this.state === 'stopped';
  }

  checkRunning(): void {
    if (this.isStopping) throw stateError('STOPPING', 'The server stops');
  }

  /** A worker has ended of that. */
  count(cause: ExitCause): void {
    this.#exits[cause] = (this.#exits[cause] ?? 0) + 1;
  }

  get summary(): string {
    const { serving, target, generation } = this.#pool;
    return `${serving.length} of ${target} workers, generation ${generation}`;
  }

  status(): PreforkStatus {
    const { application, spawnMethod, listen } = this.#plan;
    const { generation, target, serving, members } = this.#pool;
    const { addresses } = this.#listeners;
    return {
      version: 1,
      pid: process.pid,
      state: this.state,
      application,
      method: this.#crew.method ?? (spawnMethod === 'spawn' ? 'spawn' : 'fork'),
      reason: this.reason,
      generation,
      listen: addresses.length > 0 ? [...addresses] : listen.map(nameOf),
      target,
      ready: serving.length,
      workers: members.flatMap((member) => this.#crew.of(member)?.status() ?? []),
      exits: { ...this.#exits },
    };
  }
}
