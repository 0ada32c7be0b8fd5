/**
 * The programs that a loop started: starts them, and when the loop closes ends what depends on it, the streams and
 * the runs that are under way. The programs themselves go on. `Loop` has one, made with its first program.
 */
import type { EventLoop, Phase } from '../loop/loop.ts';
import type { RunProcessOptions, RunProcessResult, SpawnedProcess, SpawnOptions } from './contract.ts';
import type { Exits } from './exits.ts';
import { runProcess } from './run-process.ts';
import { SpawnedProgram } from './spawn.ts';
import { spawnRequest } from './spawn-options.ts';

/** What cannot go on without its loop. */
export interface Dependent {
  loopClosed(): void;
}

export class Programs implements Phase {
  readonly loop: EventLoop;
  readonly exits: Exits;
  readonly #dependents = new Set<Dependent>();

  constructor(loop: EventLoop, exits: Exits) {
    this.loop = loop;
    this.exits = exits;
  }

  spawn(options: SpawnOptions): SpawnedProcess {
    const request = spawnRequest(options);
    this.exits.host.ready();
    return new SpawnedProgram(this, request);
  }

  runProcess(options: RunProcessOptions): Promise<RunProcessResult> {
    return runProcess(this, options);
  }

  add(dependent: Dependent): void {
    this.#dependents.add(dependent);
  }

  remove(dependent: Dependent): void {
    this.#dependents.delete(dependent);
  }

  // As a phase it has nothing to do in a round; it wants to hear of the end.

  readonly pending = false;

  run(): void {}

  recreated(): void {}

  close(): void {
    for (const dependent of [...this.#dependents]) dependent.loopClosed();
  }
}
