/**
 * How many processors this process may use: what its affinity allows, and no more than its cgroup's quota pays for. Node
 * counts the quota itself from 22 on. Called for `--workers auto`.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';

/** `root` is where /proc and /sys are. */
export function availableProcessors(root = '/', affinity = availableParallelism()): number {
  // Part of a processor is none: a worker that shares one would be stopped in the middle of requests.
  return Math.max(1, Math.min(affinity, Math.floor(quota(root))));
}

/** In processors; Infinity without one. */
export function quota(root = '/'): number {
  const lines = read(join(root, 'proc/self/cgroup')).split('\n');
  let least = Number.POSITIVE_INFINITY;
  for (const line of lines) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    if (controllers === '') least = Math.min(least, upwards(join(root, 'sys/fs/cgroup'), path, unified));
    else if (controllers.split(',').includes('cpu'))
      least = Math.min(least, upwards(join(root, 'sys/fs/cgroup', controllers), path, legacy));
  }
  return least;
}

/** The least quota of a group and of those that it is in. A container sees its own group as the root. */
function upwards(mount: string, path: string, quotaIn: (folder: string) => number): number {
  let least = quotaIn(mount);
  for (let at = path; at !== '/' && at !== '.'; at = dirname(at))
    least = Math.min(least, quotaIn(join(mount, at)));
  return least;
}

/** cgroup v2: "max 100000" or "150000 100000". */
function unified(folder: string): number {
  const [limit = '', period = ''] = read(join(folder, 'cpu.max')).trim().split(' ');
  return ratio(limit, period);
}

function legacy(folder: string): number {
  return ratio(read(join(folder, 'cpu.cfs_quota_us')), read(join(folder, 'cpu.cfs_period_us')));
}

function ratio(limit: string, period: string): number {
  const value = Number.parseInt(limit, 10) / Number.parseInt(period, 10);
  return value > 0 ? value : Number.POSITIVE_INFINITY;
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
