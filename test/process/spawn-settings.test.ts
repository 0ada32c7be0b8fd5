/** What a program is besides its descriptors: group, session, limits, niceness, user, and whose death it follows. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { getPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SpawnOptions } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import {
  folderForEach,
  linux,
  loopForEach,
  NOBODY,
  nodeEnv,
  root,
  runFixture,
  text,
  thrown,
} from './programs.ts';

const loop = loopForEach();
const folder = folderForEach();

const output = (options: Omit<SpawnOptions, 'stdio'>) =>
  text(loop().spawn({ ...options, stdio: { stdin: 'ignore', stdout: 'pipe' } }).stdout);
const refused = (options: SpawnOptions) => thrown(() => loop().spawn(options));
const sh = (script: string): [string, ...string[]] => ['sh', '-c', script];

/** Fields of /proc/<pid>/stat after the name: 2 is the group, 3 the session. */
const stat = (pid: number) => {
  const line = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return line.slice(line.lastIndexOf(')') + 2).split(' ');
};

describe('umask', () => {
  test('is ours by default', async () => {
    expect(Number.parseInt(await output({ command: sh('umask') }), 8)).toBe(process.umask());
  });

  test('is what is given, for the program and not for us', async () => {
    const ours = process.umask();
    expect(await output({ command: sh('umask'), umask: 0o077 })).toBe('0077\n');
    expect(await output({ command: sh('umask'), umask: 0 })).toBe('0000\n');
    expect(process.umask()).toBe(ours);
  });
});

describe.runIf(linux)('nice', () => {
  const of = async (nice?: number) =>
    Number(await output({ command: sh('nice'), ...(nice !== undefined && { nice }) }));

  test.skipIf(getPriority() > 15)('is added to ours', async () => {
    const ours = getPriority();
    expect(await of()).toBe(ours);
    expect(await of(3)).toBe(ours + 3);
    expect(await of(39)).toBe(19);
    expect(getPriority()).toBe(ours);
  });

  test.runIf(root)('below ours needs root', async () => {
    expect(await of(-1)).toBe(getPriority() - 1);
  });
});

describe.runIf(linux)('rlimits', () => {
  const limits = async (rlimits: SpawnOptions['rlimits'] & object) => {
    const said = await output({ command: ['cat', '/proc/self/limits'], rlimits });
    return new Map(
      [...said.matchAll(/^(Max [a-z ]+?) {2,}(\S+) +(\S+)/gm)].map(([, name, soft, hard]) => [
        name,
        [soft, hard],
      ]),
    );
  };

  test('are set by name, and the hard one stays without a value', async () => {
    const before = await limits({});
    const after = await limits({
      nofile: { soft: 50 },
      core: { soft: 0, hard: 0 },
      cpu: { soft: 7, hard: 9 },
    });
    expect(after.get('Max open files')).toEqual(['50', before.get('Max open files')?.[1]]);
    expect(after.get('Max core file size')).toEqual(['0', '0']);
    expect(after.get('Max cpu time')).toEqual(['7', '9']);
    expect(after.get('Max stack size')).toEqual(before.get('Max stack size'));
  });

  test('may be infinite', async () => {
    expect((await limits({ cpu: { soft: Infinity } })).get('Max cpu time')?.[0]).toBe('unlimited');
  });

  test('above the hard one are refused', () => {
    const error = refused({ command: 'true', rlimits: { nofile: { soft: 2 ** 40 } } });
    expect(error).toMatchObject({ step: 'setrlimit' });
    expect(['EINVAL', 'EPERM']).toContain(error['code']);
  });

  test('are kept by the kernel: a file that grows too large ends its writer', async () => {
    const child = loop().spawn({
      command: sh('exec head -c 100000 /dev/zero'),
      rlimits: { fsize: { soft: 4096 }, core: { soft: 0 } },
      stdio: { stdout: { open: join(folder(), 'large') } },
    });
    expect(await child.exited).toMatchObject({ signal: 'SIGXFSZ' });
  });
});

describe.runIf(linux)('group', () => {
  const start = (group?: SpawnOptions['group']) => {
    const child = loop().spawn({
      command: 'cat',
      stdio: { stdin: 'pipe', stdout: 'ignore' },
      ...(group !== undefined && { group }),
    });
    const [, , pgrp, session] = stat(child.pid);
    return { child, pgrp: Number(pgrp), session: Number(session) };
  };
  const [, , ourGroup, ourSession] = linux ? stat(process.pid).map(Number) : [];

  test("is ours by default and with 'inherit'", async () => {
    for (const group of [undefined, 'inherit'] as const) {
      const { child, pgrp, session } = start(group);
      expect({ pgrp, session, groupId: child.groupId }).toEqual({
        pgrp: ourGroup,
        session: ourSession,
        groupId: 0,
      });
      await child.stop();
    }
  });

  test("'new' is the child's own, at once", async () => {
    const { child, pgrp, session } = start('new');
    expect({ pgrp, session, groupId: child.groupId }).toEqual({
      pgrp: child.pid,
      session: ourSession,
      groupId: child.pid,
    });
    await child.stop();
  });

  test("'session' is a session of its own, at once", async () => {
    const { child, pgrp, session } = start('session');
    expect({ pgrp, session, groupId: child.groupId }).toEqual({
      pgrp: child.pid,
      session: child.pid,
      groupId: child.pid,
    });
    await child.stop();
  });

  test('a number is joined, and not led', async () => {
    const leader = start('new');
    const { child, pgrp } = start(leader.child.pid);
    expect({ pgrp, groupId: child.groupId }).toEqual({ pgrp: leader.child.pid, groupId: 0 });
    expect(thrown(() => child.killGroup())).toMatchObject({ code: 'ERR_FORKBEARD_GROUP_NOT_OWNED' });
    await child.stop();
    await leader.child.stop();
  });

  test('that does not exist, or is of another session, is refused', async () => {
    expect(refused({ command: 'true', group: 0x7fff_fffe })).toMatchObject({
      code: 'EPERM',
      step: 'setpgid',
    });
    const { child } = start('session');
    expect(refused({ command: 'true', group: child.pid })).toMatchObject({ code: 'EPERM', step: 'setpgid' });
    await child.stop();
  });
});

describe.runIf(linux)('parentDeathSignal', () => {
  test.each(['', 'vfork'])(
    'ends the child with its parent (FORKBEARD_PRETEND_MISSING=%j)',
    async (missing) => {
      const path = join(folder(), 'alive');
      const { signal } = await runFixture('dies-first.mjs', {
        args: [path],
        env: { FORKBEARD_PRETEND_MISSING: missing },
      });
      expect(signal).toBe('SIGKILL');
      const pid = Number(readFileSync(path, 'utf8'));
      await new Promise<void>((resolve, reject) => {
        try {
          loop().watchProcess(pid, () => resolve());
        } catch (error) {
          if ((error as { code: string }).code === 'ESRCH') resolve();
          else reject(error);
        }
      });
    },
  );

  test.runIf(root)('is set after the user was changed, which would clear it', async () => {
    const path = join(mkdtempSync(join(tmpdir(), 'forkbeard-')), 'alive');
    const { signal } = await runFixture('dies-first.mjs', { args: [path, String(NOBODY)] });
    expect(signal).toBe('SIGKILL');
    const pid = Number(readFileSync(path, 'utf8'));
    rmSync(join(path, '..'), { recursive: true });
    await new Promise<void>((resolve) => {
      try {
        loop().watchProcess(pid, () => resolve());
      } catch {
        resolve();
      }
    });
  });

  test('of a signal that does not exist is refused before anything starts', () => {
    expect(refused({ command: 'true', parentDeathSignal: 'SIGNOTHING' })).toMatchObject({
      code: 'ERR_FORKBEARD_UNKNOWN_SIGNAL',
    });
  });
});

const asRoot = describe.runIf(linux && root);
if (!root) console.warn('spawn-settings: not root, so changing user and groups is not tested');

asRoot('users and groups', () => {
  const ids = async (options: Partial<SpawnOptions>) => {
    const said = await output({ command: ['cat', '/proc/self/status'], ...options });
    const row = (name: string) =>
      (new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(said)?.[1] ?? '')
        .trim()
        .split(/\s+/)
        .filter(Boolean)
        .map(Number);
    return {
      uid: row('Uid'),
      gid: row('Gid'),
      groups: row('Groups').sort((a, b) => a - b),
      caps: /CapEff:\t(\w+)/.exec(said)?.[1],
    };
  };
  const four = (id: number) => [id, id, id, id];

  test('uid: real, effective, saved and of files; no groups are left, and no capabilities', async () => {
    expect(await ids({ uid: 10 })).toEqual({ uid: four(10), gid: four(0), groups: [], caps: '0'.repeat(16) });
  });

  test('gid: and it is the only group', async () => {
    expect(await ids({ gid: 10 })).toMatchObject({ uid: four(0), gid: four(10), groups: [10] });
  });

  test('groups alone', async () => {
    expect(await ids({ groups: [4, 5, 6] })).toMatchObject({ uid: four(0), gid: four(0), groups: [4, 5, 6] });
    expect(await ids({ groups: [] })).toMatchObject({ groups: [] });
  });

  test('all together, in the order that the rights need', async () => {
    expect(await ids({ uid: 20, gid: 10, groups: [4, 5, 6, 10] })).toMatchObject({
      uid: four(20),
      gid: four(10),
      groups: [4, 5, 6, 10],
    });
  });

  test('leave those of this process, in all of its threads', async () => {
    await ids({ uid: 20, gid: 10 });
    for (const status of [...Array(3)].map(() => readFileSync('/proc/self/status', 'latin1'))) {
      expect(status).toMatch(/^Uid:\t0\t0\t0\t0$/m);
    }
    expect([process.getuid?.(), process.geteuid?.(), process.getgid?.()]).toEqual([0, 0, 0]);
  });

  test('a file that is to be opened is opened with the rights of the parent', async () => {
    const path = join(folder(), 'secret');
    const child = loop().spawn({
      command: sh('echo written'),
      uid: NOBODY,
      gid: NOBODY,
      stdio: { stdout: { open: path, mode: 0o600 } },
    });
    await child.exited;
    expect(readFileSync(path, 'utf8')).toBe('written\n');
  });

  test('somebody without rights is refused, with the step, and nothing is left', async () => {
    const { said, stderr } = await runFixture('without-rights.mjs');
    expect(stderr).toBe('');
    expect(said).toEqual({
      uid: ['EPERM', 'setuid'],
      gid: ['EPERM', 'setgid'],
      groups: ['EPERM', 'setgroups'],
      nice: ['EACCES', 'setpriority'],
      rlimits: ['EPERM', 'setrlimit'],
      own: 0,
      children: '',
    });
  });

  test('this process can still dump its core after it started somebody else', async (context) => {
    const cwd = folder();
    const dumps = async (...args: string[]) => {
      const command: [string, ...string[]] = [
        process.execPath,
        new URL('fixtures/dumps-core.mjs', import.meta.url).pathname,
        ...args,
      ];
      const child = loop().spawn({
        command,
        cwd,
        env: nodeEnv(),
        rlimits: { core: { soft: 65_536 } },
        stdio: { stderr: 'ignore' },
      });
      const { signal, coreDumped } = await child.exited;
      expect(signal).toBe('SIGABRT');
      return coreDumped;
    };
    if (!(await dumps())) context.skip('no core dumps here');
    expect(await dumps(String(NOBODY))).toBe(true);
  });

  test('at the limit of processes, spawn says so, and works again afterwards', async () => {
    const { said, stderr } = await runFixture('process-limit.mjs');
    expect(stderr).toBe('');
    expect(said).toEqual({ code: 'EAGAIN', step: 'fork', left: 0, works: 'again\n' });
  });
});
