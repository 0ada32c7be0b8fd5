/** A plan as `--check` prints it: the services as they hang together, and what each goes by. */
import { formatListen } from '../../daemon/listen.ts';
import { columns } from '../../daemon/table.ts';
import { formatDuration } from '../../daemon/units.ts';
import type { GroupPlan, ServicePlan, SupervisorPlan } from '../plan.ts';
import { showWord } from '../said.ts';
import type { AskedOnce } from '../service-options.ts';

export function showPlan({ tree, stateDir }: SupervisorPlan): string {
  const { restarts, within } = tree.intensity;
  const head = [
    `strategy ${tree.strategy}; at most ${restarts} restarts within ${formatDuration(within)}`,
    `state in ${stateDir ?? 'the usual place'}`,
  ];
  const rows = columns(
    [HEAD, ...rowsOf(tree, 0)],
    HEAD.map((_, index) => index),
  );
  return [...head, '', ...rows.map((row) => row.join('  ').trimEnd())].join('\n');
}

/** For machines; values of variables are secrets as often as not. */
export function planAsJson({ tree, stateDir }: SupervisorPlan): object {
  const strip = (group: GroupPlan): object => ({
    ...group,
    members: group.members.map((member) =>
      member.kind === 'group' ? strip(member) : { ...member, env: Object.keys(member.env) },
    ),
  });
  return { stateDir, tree: strip(tree) };
}

const HEAD = ['service', 'restart', 'mode', 'ready', 'live', 'after', 'command'];

function rowsOf(group: GroupPlan, depth: number): string[][] {
  return group.members.flatMap((member) => {
    const name = `${'  '.repeat(depth)}${member.name}`;
    const after = member.dependsOn
      .map(({ name: other, until }) => (until === 'ready' ? other : `${other} (done)`))
      .join(', ');
    if (member.kind === 'group')
      return [
        [name, member.restart, '', '', '', after, `(${member.strategy})`],
        ...rowsOf(member, depth + 1),
      ];
    return [
      [
        name,
        member.restart.type,
        member.mode,
        question(member.ready),
        question(member.live),
        after,
        commandOf(member),
      ],
    ];
  });
}

function commandOf({ command, listen }: ServicePlan): string {
  const addresses = listen.map(({ target }) => formatListen(target)).join(', ');
  return `${command.join(' ')}${addresses === '' ? '' : `  (given ${addresses})`}`;
}

function question(asked: AskedOnce | null): string {
  if (asked === null) return '–';
  if ('notify' in asked) return 'notify';
  if ('log' in asked) return `says ${showWord(asked.log)}`;
  const { probe } = asked;
  if ('tcp' in probe) return `tcp ${probe.host === undefined ? '' : `${probe.host}:`}${probe.tcp}`;
  if ('http' in probe) return probe.unix === undefined ? probe.http : `${probe.unix} ${probe.http}`;
  return 'unix' in probe ? `unix ${probe.unix}` : `exec ${probe.exec.join(' ')}`;
}
