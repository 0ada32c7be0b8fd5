/**
 * Where and as whom the application runs: all of it is in place before its first line, in the mold and in spawned
 * workers, and what cannot be had keeps it from being loaded at all.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ask, methods, monitorForEach, type TinyMonitor } from './tiny-monitor.ts';

const start = monitorForEach();
const root = process.getuid?.() === 0;
/** Nobody's usual number. */
const NOBODY = 65_534;

let folder: string;
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'forkbeard-')));
  chmodSync(folder, 0o755);
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Soft and hard, by the name that the kernel has for it. */
function limitsOf(pid: number): Record<string, string[]> {
  const lines = readFileSync(`/proc/${pid}/limits`, 'latin1').split('\n').slice(1);
  const rows = lines.map((line) => [line.slice(4, 26).trim(), line.slice(26, 68).trim().split(/ +/)]);
  return Object.fromEntries(rows);
}

async function surroundings(monitor: TinyMonitor) {
  return JSON.parse((await ask(`${monitor.url}/surroundings`)).body);
}

describe.each(methods)('in a worker by %s', (method) => {
  test('directory, umask and environment are those of the plan, from the first line on', async () => {
    const file = join(folder, 'settings.env');
    writeFileSync(file, 'FROM_FILE="of the file"\nFROM_BOTH=of the file\nFROM_PARENT=of the file\n');
    const monitor = start('routes.mjs', {
      cwd: folder,
      umask: 0o27,
      envFiles: [file],
      env: { FROM_PLAN: 'of the plan', FROM_BOTH: 'of the plan' },
    });
    monitor.settings = { env: { ...process.env, FROM_PARENT: 'of the parent' } };
    await monitor.worker(method);
    expect(await surroundings(monitor)).toMatchObject({
      cwd: folder,
      umask: 0o27,
      title: 'forkbeard: worker 1 gen 1 [app]',
      env: {
        worker: '1',
        file: 'of the file',
        plan: 'of the plan',
        both: 'of the plan',
        parent: 'of the parent',
      },
      atImport: { cwd: folder, file: 'of the file' },
    });
  });

  test('resource limits are those of the plan, that of descriptors too', async () => {
    const monitor = start('routes.mjs', {
      rlimits: { nofile: { soft: 200 }, core: { soft: 0, hard: 0 }, fsize: { soft: 'unlimited' } },
    });
    const worker = await monitor.worker(method);
    const own = limitsOf(process.pid);
    expect(limitsOf(worker.pid)).toMatchObject({
      'open files': ['200', own['open files']?.[1]],
      'core file size': ['0', '0'],
      'file size': ['unlimited', 'unlimited'],
      'stack size': own['stack size'],
    });
  });

  test.runIf(root)('nothing of the application runs with the rights of the monitor', async () => {
    const secret = join(folder, 'secret.env');
    writeFileSync(secret, 'FROM_FILE=read before', { mode: 0o600 });
    const monitor = start('routes.mjs', {
      uid: NOBODY,
      gid: NOBODY,
      groups: [NOBODY, 12],
      envFiles: [secret],
      cwd: '/',
    });
    await monitor.worker(method);
    const { uid, gid, groups, atImport } = await surroundings(monitor);
    expect({ uid, gid, groups: groups.sort() }).toEqual({ uid: NOBODY, gid: NOBODY, groups: [12, NOBODY] });
    expect(atImport).toMatchObject({ uid: NOBODY, gid: NOBODY, file: 'read before' });
  });

  test.runIf(root)('the user works in a directory that only he may enter', async () => {
    const own = join(folder, 'own');
    mkdirSync(own, { mode: 0o700 });
    execFileSync('chown', [`${NOBODY}:${NOBODY}`, own]);
    const monitor = start('routes.mjs', { uid: NOBODY, gid: NOBODY, groups: [], cwd: own });
    await monitor.worker(method);
    expect((await surroundings(monitor)).cwd).toBe(own);
  });
});

describe('what cannot be had keeps the application from being loaded', () => {
  /** What a mold says and ends with; the spawned worker goes the same way. */
  async function refused(monitor: TinyMonitor): Promise<{ message: string; code: unknown }> {
    const mold = monitor.mold();
    const { error } = await mold.hears('failed');
    expect(await mold.end()).toBe(error.exitCode);
    expect(monitor.stderr).not.toContain('loaded');
    return { message: error.message, code: error.exitCode };
  }

  test('a directory that is not there: 41', async () => {
    const { message, code } = await refused(start('hooks.mjs', { cwd: join(folder, 'nowhere') }));
    expect(message).toMatch(/^Cannot change to the directory .*nowhere: ENOENT/);
    expect(code).toBe(41);
  });

  test('an environment file that is not there: 41', async () => {
    const { message, code } = await refused(start('hooks.mjs', { envFiles: [join(folder, 'nothing.env')] }));
    expect(message).toMatch(/^Cannot read the environment file .*nothing\.env: ENOENT/);
    expect(code).toBe(41);
  });

  test.runIf(root)('a user that we may not become: 43', async () => {
    const monitor = start('hooks.mjs', { uid: 0, gid: NOBODY, groups: null, cwd: '/' });
    monitor.settings = { uid: NOBODY, gid: NOBODY, groups: [] };
    const { message, code } = await refused(monitor);
    expect(message).toMatch(/^Cannot become user 0: .*EPERM/);
    expect(code).toBe(43);
  });

  test.runIf(root)('a limit that we may not raise: 43', async () => {
    const monitor = start('hooks.mjs', { cwd: '/', rlimits: { core: { soft: 9, hard: 9 } } });
    monitor.settings = { uid: NOBODY, gid: NOBODY, groups: [], rlimits: { core: { soft: 0, hard: 0 } } };
    const { message, code } = await refused(monitor);
    expect(message).toMatch(/^Cannot set the resource limit core=9: .*EPERM/);
    expect(code).toBe(43);
  });

  test('a limit above the one that stays: 41', async () => {
    const monitor = start('hooks.mjs', { rlimits: { core: { soft: 9 } } });
    monitor.settings = { rlimits: { core: { soft: 0, hard: 0 } } };
    const { message, code } = await refused(monitor);
    expect(message).toMatch(/^Cannot set the resource limit core=9:: .*EINVAL/);
    expect(code).toBe(41);
  });

  test.runIf(root)('a group that we may not have: 43', async () => {
    const monitor = start('hooks.mjs', { uid: NOBODY, gid: 0, cwd: '/' });
    monitor.settings = { uid: NOBODY, gid: NOBODY, groups: [] };
    const { message, code } = await refused(monitor);
    expect(message).toMatch(/^Cannot become group 0: .*EPERM/);
    expect(code).toBe(43);
  });

  test.runIf(root)('supplementary groups that we may not have: 43, also in a spawned worker', async () => {
    const monitor = start('hooks.mjs', { uid: NOBODY, gid: NOBODY, groups: [12], cwd: '/' });
    monitor.settings = { uid: NOBODY, gid: NOBODY, groups: [] };
    const worker = await monitor.begin('spawn');
    const { error } = await worker.hears('failed');
    expect(error.message).toMatch(/^Cannot take the supplementary groups 12: .*EPERM/);
    expect(await worker.end()).toBe(43);
  });
});
