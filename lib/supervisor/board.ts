/**
 * What a supervisor looks like, as lines: the tree that `forkbeard supervise` shows on a terminal, and that `forkbeard ctl
 * status` and `tree` print. Made from a status alone; writes nothing.
 */
import { columns, cut, type Paint, painter } from '../daemon/table.ts';
import { ending, time } from '../daemon/words.ts';
import type {
  GroupState,
  GroupStatus,
  ServiceState,
  SupervisedStatus,
  SupervisorStatus,
} from './contract.ts';

export interface BoardStyle {
  colour: boolean;
  /** Of the terminal; services that do not fit are counted in one line. */
  rows?: number;
  columns?: number;
}

const HEAD = ['service', 'state', 'pid', 'age', 'restarts', ''];
const STATE = HEAD.indexOf('state');
/** Texts; the others are figures. */
const LEFT = [0, STATE, HEAD.length - 1];

const GREEN = '32';
const YELLOW = '33';
const RED = '31';
const GREY = '90';
const CYAN = '36';

const PAINT: Readonly<Record<ServiceState, string>> = {
  down: GREY,
  gated: YELLOW,
  starting: YELLOW,
  running: GREEN,
  unhealthy: RED,
  stopping: CYAN,
  settling: CYAN,
  stuck: RED,
  elsewhere: GREEN,
  backoff: YELLOW,
  done: GREY,
  failed: RED,
};
const PAINT_GROUP: Readonly<Record<GroupState, string>> = {
  down: GREY,
  starting: YELLOW,
  running: GREEN,
  restarting: YELLOW,
  stopping: CYAN,
  failed: RED,
};

interface Row {
  cells: string[];
  colour: string;
}

export function board(status: SupervisorStatus, style: BoardStyle): string[] {
  const paint = painter(style.colour);
  const lines = summary(status, paint);
  const rows = rowsOf(status.tree, 0);
  if (rows.length > 0) {
    const room = Math.max(1, (style.rows ?? Number.POSITIVE_INFINITY) - lines.length - 4);
    const shown = rows.length > room ? urgentFirst(rows, room) : rows;
    const [head = [], ...cells] = columns([HEAD, ...shown.map((row) => row.cells)], LEFT);
    lines.push('', paint(head.join('  ').trimEnd(), '1'));
    shown.forEach(({ colour }, index) => {
      const line = cells[index] as string[];
      line[STATE] = paint(line[STATE] as string, colour);
      lines.push(line.join('  ').trimEnd());
    });
    if (shown.length < rows.length) lines.push(`… and ${rows.length - shown.length} more`);
  }
  return style.columns === undefined ? lines : lines.map((line) => cut(line, style.columns as number));
}

/** The tree alone, with what hangs on what. */
export function tree({ tree: root }: SupervisorStatus, { colour }: BoardStyle): string[] {
  const paint = painter(colour);
  const lines: string[] = [`supervisor (${root.strategy}) ${paint(root.state, PAINT_GROUP[root.state])}`];
  const branch = (group: GroupStatus, indent: string) => {
    group.members.forEach((member, index) => {
      const last = index === group.members.length - 1;
      const edge = `${indent}${last ? '└─ ' : '├─ '}`;
      if (member.kind === 'group') {
        lines.push(
          `${edge}${member.name} (${member.strategy}) ${paint(member.state, PAINT_GROUP[member.state])}`,
        );
        branch(member, `${indent}${last ? '   ' : '│  '}`);
        return;
      }
      const { name, state, pid, dependsOn, command } = member;
      const after = dependsOn.length === 0 ? '' : ` after ${dependsOn.join(', ')}`;
      const who = pid === null ? '' : ` ${pid}`;
      lines.push(
        `${edge}${name} ${paint(state, PAINT[state])}${who}${after}  ${paint(command.join(' '), GREY)}`,
      );
    });
  };
  branch(root, '');
  return lines;
}

function summary(
  { state, services, pid, uptime, stateDir, tree: { problem } }: SupervisorStatus,
  paint: Paint,
): string[] {
  const all = Object.values(services);
  const ready = all.filter(({ ready: isReady }) => isReady).length;
  const count = (wanted: ServiceState) => all.filter(({ state: is }) => is === wanted).length;
  const parts = [
    paint(state, PAINT_GROUP[state]),
    `${ready} of ${all.length} ready`,
    ...(['failed', 'stuck', 'backoff', 'done'] as const)
      .filter((wanted) => count(wanted) > 0)
      .map((wanted) => `${count(wanted)} ${wanted === 'backoff' ? 'in backoff' : wanted}`),
    `pid ${pid}`,
    ...(uptime === null ? [] : [`up ${time(uptime)}`]),
    stateDir,
  ];
  return [
    `${paint('forkbeard supervise', '1')} · ${parts.join(' · ')}`,
    ...(problem === null ? [] : [paint(problem, RED)]),
  ];
}

function rowsOf(group: GroupStatus, depth: number): Row[] {
  return group.members.flatMap((member) => {
    const indent = '  '.repeat(depth);
    if (member.kind === 'service') return [{ cells: cellsOf(member, indent), colour: PAINT[member.state] }];
    const { name, state, strategy, restarts, problem } = member;
    const row = {
      cells: [`${indent}${name}`, state, '', '', String(restarts), problem ?? strategy],
      colour: PAINT_GROUP[state],
    };
    return [row, ...rowsOf(member, depth + 1)];
  });
}

function cellsOf(service: SupervisedStatus, indent: string): string[] {
  const { name, state, ready, pid, uptime, since, restarts } = service;
  return [
    `${indent}${name}`,
    state === 'running' && !ready ? 'running (not ready)' : state,
    pid === null ? '–' : String(pid),
    time(uptime ?? since),
    String(restarts),
    noteOf(service),
  ];
}

/** What is wrong, else what it says, else how it ended. */
function noteOf({ state, problem, text, lastExit, guarantee, mode }: SupervisedStatus): string {
  const note = problem ?? text;
  if (note !== null && note !== '') return note.split('\n')[0] as string;
  if (lastExit !== null && (state === 'done' || state === 'failed' || state === 'down'))
    return ending(lastExit.exitCode, lastExit.signal);
  const level = guarantee === 'group' ? ['held by its group'] : [];
  return [...(mode === 'coupled' ? [] : [mode]), ...level].join(', ');
}

/** Where there is no room for all, those that somebody must see; in their order. */
function urgentFirst(rows: readonly Row[], room: number): Row[] {
  const chosen = new Set<Row>();
  for (const colour of [RED, YELLOW, CYAN, GREEN, GREY]) {
    for (const row of rows) if (row.colour === colour && chosen.size < room) chosen.add(row);
  }
  return rows.filter((row) => chosen.has(row));
}
