/**
 * What each event of a supervisor means, for people: one level and one sentence, told apart where the next event says it
 * better: those are for machines alone. The table is complete by its type. Used by the log; knows no supervisor.
 */
import { ending, error, info, type Sentence, time, times, warn } from '../daemon/words.ts';
import type { Blocked, Cause, Holder, SupervisorEvent, Unknown } from './contract.ts';

type Kind = SupervisorEvent['event'];
type Of<K extends Kind> = SupervisorEvent & { readonly event: K };

/** `aside`: it is for machines; to people the next event, or nothing, says it better. */
export type Said = Sentence | [...Sentence, 'aside'];

type Sentences = { [K in Kind]: (event: Of<K>) => Said };

const aside = (text: string): Said => ['info', text, 'aside'];

const SENTENCES: Sentences = {
  state: ({ service, from, to }) => aside(`${service} is ${to}, and was ${from}`),
  'gate-blocked': (event) => info(`${event.service} waits: ${blockedBy(event)}`),
  'gates-passed': ({ service, waited, passed, blocked }) => {
    if (passed.length > 0)
      return warn(`${service} is started although closed: ${passed.join(', ')} (waited ${time(waited)})`);
    if (blocked.length === 0) return aside(`${service} has nothing in its way`);
    return info(`${service} need not wait any more, after ${time(waited)}`);
  },
  started: ({ service, pid, guarantee }) =>
    info(`${service} started (pid ${pid}${guarantee === 'tree' ? '' : ', held by its group alone'})`),
  adopted: ({ service, pid }) => info(`${service} runs already (pid ${pid}) and is ours from now on`),
  stale: ({ service, pid, reason }) =>
    warn(`${service}: what was left of it (pid ${pid}) is ended: ${reason}`),
  ready: ({ service, pid, ms }) => info(`${service} ready in ${time(ms)} (pid ${pid})`),
  elsewhere: ({ service, pid, isUntraced = false }) =>
    isUntraced
      ? warn(
          `${service} runs already (pid ${pid}), although its lock was removed: it is left alone, and no second one started`,
        )
      : info(`${service} runs already, under another supervisor (pid ${pid}), and is left to it`),
  released: ({ service }) => info(`${service} is not another supervisor’s any more`),
  exit: ({ service, exit, left, asked }) => {
    const rest =
      left.length === 0 ? '' : `; ${left.length} of its processes ${left.length === 1 ? 'is' : 'are'} left`;
    const how = `${service} ended: ${ending(exit.exitCode, exit.signal)}${rest}`;
    return asked ? info(how) : exit.exitCode === 0 ? info(how) : error(how);
  },
  readiness: ({ service, problem }) =>
    problem === null ? info(`${service} is ready again`) : warn(`${service} is not ready: ${problem}`),
  health: ({ service, problem }) =>
    problem === null ? info(`${service} is well again`) : warn(`${service} is not well: ${problem}`),
  backoff: ({ service, cause, delay, failures, message }) =>
    warn(
      `${service} is started again ${delay === 0 ? 'at once' : `in ${time(delay)}`} (${WHY[cause]}, ${times(failures)} in a row): ${message}`,
    ),
  failed: ({ service, cause, message }) => error(`${service} is given up (${WHY[cause]}): ${message}`),
  unknown: ({ service, what, reason }) =>
    reason === null
      ? info(`${service}: ${WHAT[what]} can be seen again`)
      : warn(`${service}: ${WHAT[what]} cannot be seen now (${reason}), and is not guessed`),
  'traces-lost': ({ service, path, problem }) =>
    problem === null
      ? warn(`${service}: somebody has removed its lock ${path} while it runs; it was made anew, and is held`)
      : error(`${service}: its lock ${path} was removed while it runs, and cannot be made anew: ${problem}`),
  flood: ({ service, held }) =>
    held === null
      ? warn(`${service} says more than it may, and is held up: what it says waits in its pipe`)
      : info(`${service} says no more than it may; its output was not read for ${time(held)}`),
  stopped: ({ service, steps, survivors, elsewhere }) => {
    if (elsewhere !== undefined)
      return info(`${service} runs on under another supervisor (pid ${elsewhere}), and is none of ours now`);
    if (survivors.length > 0) return error(`${service} could not be stopped: ${survivors.join(', ')} left`);
    const last = steps.at(-1);
    // Nothing of it was ours to stop: it was given up, had ended, or is another supervisor's.
    return info(
      last === undefined
        ? `${service} is down, and did not run here`
        : `${service} stopped by ${last.signal}`,
    );
  },
  stuck: ({ service, survivors }) =>
    error(`${service} does not end, whatever it is sent: ${survivors.join(', ')} left`),
  orphans: ({ service, orphans }) =>
    error(
      `${service} had left ${orphans.length} ${orphans.length === 1 ? 'process' : 'processes'}: ${orphans
        .map(
          ({ pid, command, spared }) =>
            `${pid} ${command} (${spared === null ? 'ended' : `spared: ${spared}`})`,
        )
        .join(', ')}`,
    ),
  'group-state': ({ group, from, to }) =>
    group === '' && to === 'running'
      ? info('all services are ready, or given up')
      : aside(`${group === '' ? 'the supervisor' : `group ${group}`} is ${to}, and was ${from}`),
  'group-restart': ({ group, because, members, delay }) =>
    warn(
      `${because} ended, and ${inGroup(group)}${members.join(', ')} ${members.length === 1 ? 'is' : 'are'} started again with it${delay === 0 ? '' : ` in ${time(delay)}`}`,
    ),
  'group-failed': ({ group, because, message }) =>
    error(`${group === '' ? 'the supervisor' : `group ${group}`} gives up because of ${because}: ${message}`),
  reconfigured: ({ added, removed, changed, unchanged }) => {
    const parts = Object.entries({ added, removed, changed }).flatMap(([what, names]) =>
      names.length === 0 ? [] : [`${what}: ${names.join(', ')}`],
    );
    return info(`configuration read anew; ${[...parts, `untouched: ${unchanged.length}`].join('; ')}`);
  },
  reaped: ({ exit }) =>
    aside(`pid ${exit.pid}, an orphan of nobody here, has ended: ${ending(exit.exitCode, exit.signal)}`),
  swept: ({ when, orphans, unseen }) =>
    unseen !== undefined
      ? warn(`whether anything was left over at the ${when} cannot be seen (${unseen}); found: ${orphans}`)
      : orphans === 0
        ? aside(`nothing was left over at the ${when}`)
        : error(`${orphans} ${orphans === 1 ? 'process was' : 'processes were'} left over at the ${when}`),
};

export const EVENTS = Object.keys(SENTENCES) as Kind[];

export function sentence(event: SupervisorEvent): Said {
  return (SENTENCES[event.event] as (event: SupervisorEvent) => Said)(event);
}

const WHAT: Readonly<Record<Unknown, string>> = {
  left: 'who is left of it',
  startup: 'whether it has begun',
  ready: 'whether it is ready',
  live: 'whether it is well',
};

const WHY: Readonly<Record<Cause, string>> = {
  exit: 'it ended',
  'not-ready': 'it did not become ready',
  unhealthy: 'it was not well',
  gate: 'a gate stayed closed',
  refused: 'it could not be started',
  'shim-lost': 'its shim was killed',
  intensity: 'too many restarts',
  'exit-code': 'its exit code says so',
  locked: 'somebody has its lock',
  lease: 'its lease was over',
  dependency: 'for what it depends on',
  guarantee: 'less than is required',
  internal: 'a mistake of forkbeard’s',
};

function blockedBy({ gate, reason, holders }: Blocked): string {
  return `${gate} (${reason})${holders.length === 0 ? '' : `, held by ${holders.map(nameOf).join(', ')}`}`;
}

function nameOf({ pid, command, ours }: Holder): string {
  return `${pid} ${command}${ours === null ? '' : ours ? ' (ours)' : ' (a stranger)'}`;
}

function inGroup(group: string): string {
  return group === '' ? '' : `in ${group} `;
}
