/** A plan as `--check` prints it: a line for each option that has something to say. */
import { formatLimits } from '../../daemon/limits.ts';
import { formatListen } from '../../daemon/listen.ts';
import { formatDuration, formatSize } from '../../daemon/units.ts';
import type { Plan } from '../plan.ts';

export function showPlan(plan: Plan): string {
  const limit = (value: number, text = String(value)) => (value === 0 ? 'none' : text);
  const or = (value: string | number | null, otherwise: string) =>
    value === null ? otherwise : String(value);
  const rows: [name: string, value: string][] = [
    ['application', plan.application],
    ['title', plan.title],
    ['workers', String(plan.workers)],
    ['listen', plan.listen.map(formatListen).join(', ')],
    ['spawn method', plan.spawnMethod],
    ['reuse port', plan.reusePort ? 'yes' : 'no'],
    ['backlog', String(plan.backlog)],
    ['boot timeout', formatDuration(plan.bootTimeout)],
    ['graceful timeout', formatDuration(plan.gracefulTimeout)],
    ['blocked timeout', limit(plan.blockedTimeout, formatDuration(plan.blockedTimeout))],
    ['request timeout', limit(plan.requestTimeout, formatDuration(plan.requestTimeout))],
    ['connections a worker', limit(plan.maxConnections)],
    ['requests in flight', limit(plan.maxRequestsInFlight)],
    ['requests a worker', limit(plan.maxRequests)],
    ['lifetime', limit(plan.maxLifetime, formatDuration(plan.maxLifetime))],
    ['memory a worker', limit(plan.maxMemory, formatSize(plan.maxMemory))],
    ['jitter', `${plan.jitter} %`],
    ['refork after', plan.reforkAfter.length === 0 ? 'never' : `${plan.reforkAfter.join(', ')} requests`],
    ['control', plan.control === false ? 'none' : plan.control],
    ['metrics', plan.metrics === null ? 'none' : formatListen(plan.metrics)],
    ['pid file', or(plan.pidFile, 'none')],
    ['environment', [...plan.envFiles, ...Object.keys(plan.env)].join(', ') || 'as it is'],
    ['user', or(plan.uid, 'as it is')],
    ['group', or(plan.gid, 'as it is')],
    ['umask', or(plan.umask === null ? null : `0${plan.umask.toString(8).padStart(3, '0')}`, 'as it is')],
    ['resource limits', formatLimits(plan.rlimits) || 'as they are'],
    ['folder', plan.cwd],
    ['log', `${plan.logFormat}, to ${plan.logFile ?? 'standard output'}`],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n');
}
