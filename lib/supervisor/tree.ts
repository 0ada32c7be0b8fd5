/**
 * The tree of one configuration: a group for each that is written down, a cell for each service, and who waits for whom.
 * Made by the supervisor, and anew for another configuration (reconfigure.ts), with what goes on as it is.
 */
import { nearest, stateError } from '../sys/errors.ts';
import type { Cell } from './cell.ts';
import { Group } from './group.ts';
import { type Order, orderOf } from './order.ts';
import type { GroupPlan, ServicePlan, SupervisorPlan } from './plan.ts';

export interface TreeMakers {
  readonly group: (plan: GroupPlan, parent: Group | null) => Group;
  readonly cell: (plan: ServicePlan, group: Group) => Cell;
}

/** What goes on as it is, by name. */
export interface Kept {
  readonly cells: ReadonlyMap<string, Cell>;
  readonly groups: ReadonlyMap<string, Group>;
}
const NOTHING: Kept = { cells: new Map(), groups: new Map() };

export class Tree {
  readonly plan: SupervisorPlan;
  readonly order: Order;
  readonly root: Group;
  readonly #cells = new Map<string, Cell>();

  constructor(plan: SupervisorPlan, makers: TreeMakers, kept: Kept = NOTHING) {
    this.plan = plan;
    this.order = orderOf(plan.tree);
    this.root = this.#group(plan.tree, null, makers, kept);
  }

  get cells(): ReadonlyMap<string, Cell> {
    return this.#cells;
  }

  /** All of them, the outermost included, whose name is ''. */
  get groups(): Map<string, Group> {
    return groupsOf(this.root);
  }

  /** Throws `ERR_FORKBEARD_UNKNOWN_SERVICE`. */
  cell(name: string): Cell {
    const cell = this.#cells.get(name);
    if (cell !== undefined) return cell;
    const near = nearest(name, [...this.#cells.keys()]);
    const hint = near === undefined ? '' : `; did you mean ${near}?`;
    throw stateError('UNKNOWN_SERVICE', `There is no service ${name}${hint}`);
  }

  #group(plan: GroupPlan, parent: Group | null, makers: TreeMakers, kept: Kept): Group {
    const group = kept.groups.get(plan.name) ?? makers.group(plan, parent);
    group.members = plan.members.map((member) => {
      if (member.kind === 'group') return this.#group(member, group, makers, kept);
      const cell = kept.cells.get(member.name) ?? makers.cell(member, group);
      this.#cells.set(member.name, cell);
      return cell;
    });
    return group;
  }
}

function groupsOf(group: Group): Map<string, Group> {
  const within = group.members.flatMap((member) => (member instanceof Group ? [...groupsOf(member)] : []));
  return new Map([[group.name, group], ...within]);
}
