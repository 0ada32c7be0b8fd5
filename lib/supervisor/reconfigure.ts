/**
 * What is different in another configuration of the same supervisor: which services come, go, have changed, and which
 * groups are what they were. Called by the supervisor before it touches anything.
 */
import { isDeepStrictEqual } from 'node:util';
import { invalidOption } from '../sys/errors.ts';
import type { Reconfigured } from './contract.ts';
import { modesOf } from './modes/modes.ts';
import type { GroupPlan, ServicePlan, SupervisorPlan } from './plan.ts';

export interface Difference extends Reconfigured {
  /** Groups that go on as they are, but for their members. The outermost is ''. */
  readonly groups: ReadonlySet<string>;
}

/** Throws `ERR_FORKBEARD_INVALID_OPTION` for what can be changed by another start alone. */
export function differenceOf(before: SupervisorPlan, after: SupervisorPlan): Difference {
  for (const option of ['stateDir', 'supervised', 'distributed'] as const)
    if (!isDeepStrictEqual(before[option], after[option])) throw fixed(option);
  const modes = modesOf(before.tree);
  for (const mode of ['supervised', 'distributed'] as const) {
    if (modesOf(after.tree).has(mode) && !modes.has(mode))
      throw fixed('mode', `: so far no service has mode ${mode}`);
  }
  const [old, now] = [placesOf(before.tree), placesOf(after.tree)];
  const names = [...now.services.keys()];
  const [known, added] = [
    names.filter((name) => old.services.has(name)),
    names.filter((name) => !old.services.has(name)),
  ];
  const isSame = (name: string) => isDeepStrictEqual(old.services.get(name), now.services.get(name));
  return {
    added,
    removed: [...old.services.keys()].filter((name) => !now.services.has(name)),
    changed: known.filter((name) => !isSame(name)),
    unchanged: known.filter(isSame),
    groups: new Set(
      [...now.groups]
        .filter(([name, way]) => isDeepStrictEqual(old.groups.get(name), way))
        .map(([name]) => name),
    ),
  };
}

function fixed(option: string, why = ''): Error {
  return invalidOption(option, `${option} is for the whole life of a supervisor; start it anew${why}`);
}

/** What a group is without its members, and without what it waits for: that is looked up when it is needed. */
type Head = Omit<GroupPlan, 'members' | 'dependsOn'>;

interface Places {
  /** Each group, and those around it. */
  readonly groups: Map<string, readonly Head[]>;
  readonly services: Map<string, { readonly plan: ServicePlan; readonly within: readonly Head[] }>;
}

function placesOf(tree: GroupPlan): Places {
  const places: Places = { groups: new Map(), services: new Map() };
  const visit = (group: GroupPlan, around: readonly Head[]) => {
    const { members, dependsOn: _, ...head } = group;
    const within = [...around, head];
    places.groups.set(group.name, within);
    for (const member of members) {
      if (member.kind === 'group') visit(member, within);
      else places.services.set(member.name, { plan: member, within });
    }
  };
  visit(tree, []);
  return places;
}
