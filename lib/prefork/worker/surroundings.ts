/**
 * Where and as whom the application runs: its user, umask, limits, working directory and environment. Taken up once, before
 * the first line of the application is loaded, so that nothing of it ever runs with the monitor's rights.
 */
import { readFileSync } from 'node:fs';
import { parseEnv } from 'node:util';
import { formatLimits } from '../../daemon/limits.ts';
import { setParentDeathSignal } from '../../process/lineage.ts';
import { nativeSpawn } from '../../process/native-spawn.ts';
import { EPERM } from '../../sys/errno.ts';
import { check } from '../../sys/errors.ts';
import { EXIT } from '../exit-codes.ts';
import type { Plan } from '../plan.ts';

/** One clear sentence, and what to exit with. */
export class SurroundingsError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number, cause: unknown) {
    super(message, { cause });
    this.name = 'SurroundingsError';
    this.exitCode = exitCode;
  }
}

type Settings = Pick<Plan, 'uid' | 'gid' | 'groups' | 'umask' | 'rlimits' | 'cwd' | 'envFiles' | 'env'>;

/** Throws a SurroundingsError: the application must not be loaded then. */
export function takeUp(plan: Settings): void {
  // Read with the monitor's rights: secrets are often root's alone.
  Object.assign(process.env, variables(plan));
  // Raising a hard limit takes the monitor's rights, too.
  limit(plan);
  become(plan);
  if (plan.umask !== null) process.umask(plan.umask);
  attempt(EXIT.boot, `Cannot change to the directory ${plan.cwd}`, () => process.chdir(plan.cwd));
}

/** What is set already goes before files, as with `node --env-file`; `env` goes before both. */
export function variables({ envFiles, env }: Pick<Plan, 'envFiles' | 'env'>): NodeJS.ProcessEnv {
  const fromFiles: NodeJS.ProcessEnv = {};
  for (const file of envFiles) {
    attempt(EXIT.boot, `Cannot read the environment file ${file}`, () => {
      Object.assign(fromFiles, parseEnv(readFileSync(file, 'utf8')));
    });
  }
  return { ...fromFiles, ...process.env, ...env };
}

/** Here and not as the process is started: Node raises its limit of descriptors to the hard one. */
function limit({ rlimits }: Settings): void {
  const { limits, setLimit } = nativeSpawn();
  const number = (value: number | 'unlimited') => (value === 'unlimited' ? Number.POSITIVE_INFINITY : value);
  for (const [name, { soft, hard }] of Object.entries(rlimits)) {
    const result = setLimit(limits[name] ?? -1, number(soft), hard === undefined ? Number.NaN : number(hard));
    attempt(
      result === -EPERM ? EXIT.noPermission : EXIT.boot,
      `Cannot set the resource limit ${formatLimits({ [name]: { soft, hard } })}`,
      () => check(result, 'setrlimit'),
    );
  }
}

/** Groups first: whoever has given up the user may not change them any more. */
function become({ uid, gid, groups }: Settings): void {
  if (groups !== null && !hasGroups(groups)) {
    attempt(EXIT.noPermission, `Cannot take the supplementary groups ${groups.join(', ')}`, () =>
      process.setgroups?.(groups),
    );
  }
  if (gid !== null && gid !== process.getgid?.()) {
    attempt(EXIT.noPermission, `Cannot become group ${gid}`, () => process.setgid?.(gid));
  }
  if (uid !== null && uid !== process.getuid?.()) {
    attempt(EXIT.noPermission, `Cannot become user ${uid}`, () => process.setuid?.(uid));
  }
}

/** For a mold, which does nothing that has to be finished. A change of the user makes the kernel forget it. */
export function dieWithParent(): void {
  setParentDeathSignal('SIGKILL', process.ppid);
}

function hasGroups(groups: readonly number[]): boolean {
  const have = new Set(process.getgroups?.());
  return have.size === groups.length && groups.every((group) => have.has(group));
}

function attempt(exitCode: number, sentence: string, act: () => void): void {
  try {
    act();
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).message;
    throw new SurroundingsError(`${sentence}: ${why}`, exitCode, error);
  }
}
