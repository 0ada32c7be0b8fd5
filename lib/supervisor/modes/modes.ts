/** The modes that services of a plan have, as one: what the supervisor calls, whichever they are. */
import type { ExitStatus } from '../../process/contract.ts';
import type { Loop } from '../../process/loop.ts';
import type { Mode, SupervisorStatus } from '../contract.ts';
import type { GroupPlan, SupervisorPlan } from '../plan.ts';
import { Distributed } from './distributed.ts';
import { type ModeObject, standingOf } from './standing.ts';
import { Supervised } from './supervised.ts';

export interface ModesAround {
  readonly loop: Loop;
  readonly status: () => SupervisorStatus;
  /** To the first process of each service that runs. */
  readonly signal: (signal: string) => void;
  /** As PID 1: somebody else's child has ended, and was ours to reap. */
  readonly reaped: (exit: ExitStatus) => void;
}

export class Modes {
  readonly #plan: SupervisorPlan;
  readonly #around: ModesAround;
  #open: ModeObject[] = [];
  #opening: Promise<void> | null = null;

  constructor(plan: SupervisorPlan, around: ModesAround) {
    this.#plan = plan;
    this.#around = around;
  }

  /** Before the first service is started. Rejected when nobody could ask how we are. */
  open(): Promise<void> {
    this.#opening ??= this.#openAll().catch((error) => {
      this.close();
      throw error;
    });
    return this.#opening;
  }

  /** Something may have. */
  changed(): void {
    if (this.#open.length === 0) return;
    const standing = standingOf(this.#around.status());
    for (const mode of this.#open) mode.changed(standing);
  }

  /** Some services are others from now on: until the next `changed` that says that all are ready. */
  reloading(): void {
    for (const mode of this.#open) mode.reloading?.();
  }

  async stopping(): Promise<void> {
    await Promise.all(this.#open.map((mode) => mode.stopping()));
  }

  /** Services are to be ended at once. */
  hurry(): void {
    for (const mode of this.#open) mode.hurry?.();
  }

  close(): void {
    for (const mode of this.#open.splice(0)) mode.close();
    this.#opening = null;
  }

  async #openAll(): Promise<void> {
    const { supervised, distributed, tree } = this.#plan;
    const { loop, signal, reaped } = this.#around;
    const modes = modesOf(tree);
    if (modes.has('supervised'))
      this.#open.push(new Supervised({ loop, notifyFd: supervised?.notifyFd ?? null }));
    if (modes.has('distributed') && distributed !== undefined)
      this.#open.push(await Distributed.open(distributed, { loop, signal, onReaped: reaped }));
  }
}

export function modesOf({ members }: GroupPlan): Set<Mode> {
  return new Set(
    members.flatMap((member) => (member.kind === 'group' ? [...modesOf(member)] : [member.mode])),
  );
}
