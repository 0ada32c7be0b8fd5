/**
 * What services wait for: that those they depend on are there, and that what was given up for want of one comes back with
 * it. Asked by the supervisor, which has the tree; whether a start is tried again is the starter's.
 */
import { Attempt } from './attempt.ts';
import type { Cell } from './cell.ts';
import type { DependencyPlan } from './plan.ts';
import type { Tree } from './tree.ts';

export interface NeedsAround {
  /** As it is now: another configuration may have put others into a group that is waited for. */
  readonly tree: () => Tree;
  /** Until it holds, looked at whenever anything has happened. Rejected with the signal's reason. */
  readonly until: (holds: () => boolean, signal: AbortSignal) => Promise<void>;
}

export class Needs {
  readonly #around: NeedsAround;

  constructor(around: NeedsAround) {
    this.#around = around;
  }

  get #tree(): Tree {
    return this.#around.tree();
  }

  /** What it depends on, directly and not, first things first. */
  of(name: string): Cell[] {
    const { needs, within } = this.#tree.order;
    const found = new Set<string>();
    const visit = (one: string) => {
      for (const need of needs.get(one) ?? []) {
        for (const other of within.get(need.name) ?? []) {
          if (found.has(other)) continue;
          visit(other);
          found.add(other);
        }
      }
    };
    visit(name);
    return [...found].map((one) => this.#tree.cell(one));
  }

  /** Until all that it depends on is there. Rejected with an Attempt when something of that never will be. */
  async met(name: string, say: (problem: string) => void, signal: AbortSignal): Promise<void> {
    const look = () => {
      for (const need of this.#directly(name)) {
        const waits = this.#lacks(need);
        if (waits !== null) {
          say(waits);
          return false;
        }
      }
      return true;
    };
    if (look()) return;
    let failure: Attempt | null = null;
    await this.#around.until(() => {
      try {
        return look();
      } catch (error) {
        failure = error as Attempt;
        return true;
      }
    }, signal);
    if (failure !== null) throw failure;
  }

  /** What was given up for want of it alone has what it needs, perhaps. */
  reviveFor(name: string): void {
    for (const dependent of this.#tree.order.dependents.get(name) ?? []) {
      const { wanted, failedFor, group, service } = this.#tree.cell(dependent);
      if (!wanted || failedFor !== 'dependency' || group.hasFailed || service.state !== 'failed') continue;
      if (this.#isHopeless(dependent)) continue;
      service.revive().catch(() => {});
    }
  }

  #isHopeless(name: string): boolean {
    try {
      for (const need of this.#directly(name)) this.#lacks(need);
      return false;
    } catch {
      return true;
    }
  }

  /** Services that it waits for. */
  #directly(name: string): DependencyPlan[] {
    const { needs, within } = this.#tree.order;
    return (needs.get(name) ?? []).flatMap(({ name: other, until }) =>
      (within.get(other) ?? []).map((one) => ({ name: one, until })),
    );
  }

  /** Null when it is as it is needed; else in what it is wanting. Throws when it will stay so. */
  #lacks({ name, until }: DependencyPlan): string | null {
    const cell = this.#tree.cell(name);
    const { state, problem, lastExit, ready } = cell.service.status();
    const fail = (why: string) => new Attempt('dependency', `It depends on ${name}, ${why}`, { final: true });
    if (state === 'failed') throw fail(`which has failed: ${problem}`);
    if (state === 'down' && cell.group.hasFailed) throw fail('whose group has been given up');
    if (state === 'done') {
      if (lastExit?.exitCode === 0 || (until === 'ready' && cell.wasReady)) return null;
      throw fail('which has not ended well');
    }
    // Not ready for a while is no reason to wait: it runs, and was.
    if (until === 'ready' && (ready || state === 'running' || state === 'unhealthy')) return null;
    return `waits for ${name}, which is ${state}`;
  }
}
