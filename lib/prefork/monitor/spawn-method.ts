/**
 * How workers come to be: forked from a mold, or spawned, each to load the application for itself. Decided once the first
 * mold has loaded and says what stands against a fork of it; and once more if forking turns out not to work later. The
 * first mold's failures are the application's, and `server.ts` is told of those.
 */
import { becomeSubreaper } from '../../process/lineage.ts';
import type { Loop } from '../../process/loop.ts';
import { reapOrphans } from '../../process/orphans.ts';
import type { ExitCause } from '../contract.ts';
import { EXIT } from '../exit-codes.ts';
import type { Plan } from '../plan.ts';
import type { Crew } from './crew.ts';
import type { MoldError, Molds } from './molds.ts';
import type { Standing } from './standing.ts';
import type { Timers } from './timers.ts';

export interface SpawnMethodHost {
  /** No mold came to be. True when that is the end of the server. */
  failedEarly(cause: ExitCause, message: string): boolean;
  giveUp(exitCode: number, message: string): void;
  onDecided(method: 'fork' | 'spawn', reason: string): void;
  onWarning(message: string): void;
}

export class SpawnMethod {
  readonly #plan: Plan;
  readonly #crew: Crew;
  readonly #molds: Molds;
  readonly #standing: Standing;
  readonly #host: SpawnMethodHost;

  constructor(plan: Plan, crew: Crew, molds: Molds, standing: Standing, host: SpawnMethodHost) {
    this.#plan = plan;
    this.#crew = crew;
    this.#molds = molds;
    this.#standing = standing;
    this.#host = host;
  }

  begin(loop: Loop, timers: Timers, generation: number): void {
    if (this.#plan.spawnMethod === 'spawn') {
      this.#decide('spawn', '');
      return;
    }
    try {
      becomeSubreaper();
    } catch (error) {
      this.cannotFork((error as Error).message);
      return;
    }
    // From now on orphans come to us, if they did not before.
    timers.hold(reapOrphans(loop));
    this.#firstMold(generation);
  }

  /** With 'auto' workers are spawned; whoever insists on forks gets the reason. */
  cannotFork(reason: string): void {
    if (this.#plan.spawnMethod === 'fork') {
      this.#host.giveUp(EXIT.unsafeFork, `Workers cannot be forked: ${reason}`);
      return;
    }
    this.#decide('spawn', reason);
    this.#molds.releaseAll();
  }

  #firstMold(generation: number): void {
    this.#molds.load(generation).then(
      ({ method, hazards, cutOff }) => {
        const blocking = hazards.filter((hazard) => hazard.blocking);
        if (method === 'spawn') {
          this.cannotFork(blocking.map(({ message }) => message).join('; '));
          return;
        }
        if (cutOff !== '') this.#host.onWarning(notInWorkers(cutOff));
        this.#decide('fork', '');
      },
      (error: MoldError) => {
        if (this.#standing.isStopping || this.#host.failedEarly(error.why, error.message)) return;
        this.#firstMold(generation);
      },
    );
  }

  #decide(method: 'fork' | 'spawn', reason: string): void {
    if (this.#standing.isStopping) return;
    this.#standing.reason = reason;
    this.#crew.method = method;
    this.#host.onDecided(method, reason);
  }
}

/** Nothing tells the application: a client of a database waits for answers that never come. */
function notInWorkers(cutOff: string): string {
  return `What the application has opened while it was loaded does not work in its workers (${cutOff}): open it in afterFork, or close it in beforeFork`;
}
