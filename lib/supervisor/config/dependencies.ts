/**
 * Whether services can be started one after the other: every name that is waited for is there, and nobody waits for
 * itself, over however many others. Called when everything else of a configuration is right.
 */
import { nearest } from '../../sys/errors.ts';
import type { GroupPlan, ServicePlan } from '../plan.ts';
import { type Path, type Source, wrong } from './source.ts';

/** A service or a group, and where it is written. */
export interface Entry {
  readonly path: Path;
  /** Names of the groups that it is in, the outermost first. */
  readonly around: readonly string[];
}

type Member = ServicePlan | GroupPlan;

export function checkDependencies(
  tree: GroupPlan,
  entries: ReadonlyMap<string, Entry>,
  source: Source,
): void {
  const waits = new Map<string, string[]>();
  const visit = (group: GroupPlan, above: readonly string[]) => {
    group.members.forEach((member, index) => {
      checkNames(member, entries, source);
      const own = member.dependsOn.map(({ name }) => name);
      const before = group.members[index - 1];
      // Each waits for the one before it, so that those after it can go with it.
      const order = group.strategy === 'rest_for_one' && before !== undefined ? [before.name] : [];
      const whole = member.kind === 'group' ? member.members.map(({ name }) => name) : [];
      waits.set(member.name, [...own, ...above, ...order, ...whole]);
      if (member.kind === 'group') visit(member, [...above, ...own]);
    });
  };
  visit(tree, []);
  const circle = findCircle(waits);
  if (circle === null) return;
  const [first = ''] = circle;
  const path = entries.get(first)?.path ?? [];
  throw wrong(source, [...path, 'dependsOn'], `goes round in a circle: ${circle.join(' → ')}`);
}

function checkNames(member: Member, entries: ReadonlyMap<string, Entry>, source: Source): void {
  const { path, around } = entries.get(member.name) as Entry;
  const seen = new Set<string>();
  member.dependsOn.forEach(({ name }, index) => {
    const at = [...path, 'dependsOn', index];
    if (!entries.has(name)) {
      const near = nearest(
        name,
        [...entries.keys()].filter((other) => other !== member.name),
      );
      const hint = near === undefined ? '' : `; did you mean '${near}'?`;
      throw wrong(source, at, `must be a service, and there is no '${name}'${hint}`);
    }
    if (around.includes(name)) throw wrong(source, at, `must not be ${name}, which it is a part of`);
    if (seen.has(name)) throw wrong(source, at, `names ${name} twice`);
    seen.add(name);
  });
}

/** A way from somebody to itself, both ends included; null without one. */
function findCircle(waits: ReadonlyMap<string, readonly string[]>): string[] | null {
  const done = new Set<string>();
  const way: string[] = [];
  const follow = (name: string): string[] | null => {
    const at = way.indexOf(name);
    if (at >= 0) return [...way.slice(at), name];
    if (done.has(name)) return null;
    way.push(name);
    for (const next of waits.get(name) ?? []) {
      const circle = follow(next);
      if (circle !== null) return circle;
    }
    way.pop();
    done.add(name);
    return null;
  };
  for (const name of waits.keys()) {
    const circle = follow(name);
    if (circle !== null) return circle;
  }
  return null;
}
