/**
 * Another configuration of the same supervisor: what is different in it (which services come, go, have changed, and which
 * groups are what they were), and how it is put in the place of the one before. Called by the supervisor, once at a time.
 */
import { isDeepStrictEqual } from 'node:util';
import { invalidOption, stateError } from '../sys/errors.ts';
import type { Cell } from './cell.ts';
import type { Reconfigured } from './contract.ts';
import { modesOf } from './modes/modes.ts';
import type { GroupPlan, ServicePlan, SupervisorPlan } from './plan.ts';
import { Tree, type TreeMakers } from './tree.ts';

export interface ReconfigureAround {
  /** The one that counts. */
  readonly tree: () => Tree;
  readonly makers: TreeMakers;
  /** From now on it is another. */
  readonly follow: (tree: Tree) => void;
  /** Null: it does not run. */
  readonly startedAt: () => number | null;
  readonly isStopping: () => boolean;
  /** Each after those that depend on it. */
  readonly inReverse: (cells: readonly Cell[], act: (cell: Cell) => Promise<void>) => Promise<void>;
  /** The old is gone, the new is not there yet. */
  readonly tell: (said: Reconfigured) => void;
}

/** Until the new services are on their way. What goes is stopped while all is as it was, so that it may stay so. */
export async function reconfigure(plan: SupervisorPlan, around: ReconfigureAround): Promise<Reconfigured> {
  const startedAt = around.startedAt();
  const throwIfStopped = () => {
    if (around.isStopping() || around.startedAt() !== startedAt)
      throw stateError('STOPPED', 'The supervisor was stopped; its configuration is as it was');
  };
  throwIfStopped();
  const before = around.tree();
  const { groups, ...said } = differenceOf(before.plan, plan);
  const { added, removed, changed } = said;
  const going = [...removed, ...changed].map((name) => before.cell(name));
  const wanted = new Set(going.filter((cell) => cell.wanted));
  for (const cell of going) cell.wanted = false;
  const stuck: string[] = [];
  await around.inReverse(going, async ({ name, service }) => {
    const { survivors } = await service.stop();
    if (survivors.length > 0) stuck.push(`${name} (${survivors.join(', ')})`);
  });
  throwIfStopped();
  if (stuck.length > 0) {
    for (const cell of wanted) {
      cell.wanted = true;
      cell.service.start().catch(() => {});
    }
    throw stateError('STUCK', `The configuration is as it was: nothing ends ${stuck.join(', ')}`);
  }
  swap(plan, new Set(going), groups, around);
  around.tell(said);
  if (startedAt === null) return said;
  const again = new Set([...wanted].map(({ name }) => name));
  for (const name of around.tree().order.services) {
    if (!added.includes(name) && !again.has(name)) continue;
    const cell = around.tree().cells.get(name);
    if (cell === undefined) continue;
    cell.group.forgive();
    cell.group.expect();
    cell.wanted = true;
    cell.service.start().catch(() => {});
  }
  return said;
}

function swap(
  plan: SupervisorPlan,
  going: ReadonlySet<Cell>,
  kept: ReadonlySet<string>,
  { tree, makers, follow, startedAt }: ReconfigureAround,
): void {
  const before = tree().groups;
  const cells = new Map([...tree().cells].filter(([, cell]) => !going.has(cell)));
  const groups = new Map([...before].filter(([name]) => kept.has(name)));
  const now = new Tree(plan, makers, { cells, groups });
  follow(now);
  for (const [name, group] of before) if (!groups.has(name)) group.end('down');
  if (startedAt() === null) return;
  for (const [name, group] of now.groups) if (!groups.has(name)) group.begin();
}

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
