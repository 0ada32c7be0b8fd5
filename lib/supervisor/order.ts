/**
 * Who waits for whom: dependencies as they are written, those of the groups around, and the order within a group that
 * restarts the rest. Called once by the supervisor, with a plan in which nobody waits for itself.
 */
import type { DependencyPlan, GroupPlan, ServicePlan } from './plan.ts';

export interface Order {
  /** In an order in which each comes after what it waits for. */
  readonly services: readonly string[];
  /** What each service waits for: services and groups. */
  readonly needs: ReadonlyMap<string, readonly DependencyPlan[]>;
  /** Who waits for each service: services. */
  readonly dependents: ReadonlyMap<string, readonly string[]>;
  /** Services of a name: a group's are many. */
  readonly within: ReadonlyMap<string, readonly string[]>;
}

export function orderOf(tree: GroupPlan): Order {
  const needs = new Map<string, DependencyPlan[]>();
  const within = new Map<string, string[]>();
  const visit = (member: ServicePlan | GroupPlan, above: readonly DependencyPlan[]): string[] => {
    const own = [...above, ...member.dependsOn];
    if (member.kind === 'service') {
      needs.set(member.name, own);
      within.set(member.name, [member.name]);
      return [member.name];
    }
    const inside = member.members.flatMap((one, index) => {
      const before = member.members[index - 1];
      const chain: DependencyPlan[] =
        member.strategy === 'rest_for_one' && before !== undefined
          ? [{ name: before.name, until: 'ready' }]
          : [];
      return visit(one, [...own, ...chain]);
    });
    within.set(member.name, inside);
    return inside;
  };
  const all = visit(tree, []);

  const services: string[] = [];
  const dependents = new Map<string, string[]>(all.map((name) => [name, []]));
  const seen = new Set<string>();
  const place = (name: string) => {
    if (seen.has(name)) return;
    seen.add(name);
    for (const need of needs.get(name) ?? []) {
      for (const other of within.get(need.name) ?? []) {
        dependents.get(other)?.push(name);
        place(other);
      }
    }
    services.push(name);
  };
  for (const name of all) place(name);
  return { services, needs, dependents, within };
}
