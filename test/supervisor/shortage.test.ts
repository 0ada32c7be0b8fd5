/** A shim whose own calls fail: each is a refusal with its errno and step, and nothing is left of the service. */
import { execFile, execFileSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Loop } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { Shim, type ShimOptions } from '../../dist/supervisor/shim.js';
import { lockHolders } from '../../dist/supervisor/state.js';
import { coupled, eventually, fixture, folder, marked, Recorder } from './support.ts';

const loop = Loop.current();

const errors = { EPERM: 1, EAGAIN: 11, ENOMEM: 12, EACCES: 13, ENFILE: 23, EMFILE: 24, ENOLCK: 37 };
/** As the child makes them: x64, arm64. */
const calls = {
  setpgid: [109, 154],
  setsid: [112, 157],
  setpriority: [141, 140],
  prlimit: [302, 261],
  chdir: [80, 49],
  setgroups: [116, 159],
  setresgid: [119, 149],
  setresuid: [117, 147],
  prctl: [157, 167],
  execve: [59, 221],
} as const;
const arch = ['x64', 'arm64'].indexOf(process.arch) as 0 | 1;

let library = '';

/** Starts a shim of which one call fails: the service's own program is not concerned. */
function start(fails: string, options: ShimOptions): { shim: Shim; heard: Recorder } {
  if (library === '') {
    library = join(folder(), 'fails.so');
    execFileSync('cc', ['-O1', '-Wall', '-Werror', '-shared', '-fPIC', '-o', library, fixture('fails.c')]);
  }
  const { LD_PRELOAD: before } = process.env;
  process.env['LD_PRELOAD'] = before ? `${before}:${library}` : library;
  process.env['FORKBEARD_TEST_FAILS'] = fails;
  try {
    const heard = new Recorder();
    return { shim: Shim.start(loop, options, heard), heard };
  } finally {
    if (before === undefined) delete process.env['LD_PRELOAD'];
    else process.env['LD_PRELOAD'] = before;
    delete process.env['FORKBEARD_TEST_FAILS'];
  }
}

let runs = 0;
function service(more: Partial<ShimOptions> = {}) {
  const state = folder();
  const runId = `shortage-${process.pid}-${runs++}`;
  const options = coupled('exit 6', {
    env: { PATH: process.env['PATH'] as string, FORKBEARD_RUN_ID: runId },
    lock: join(state, 'x.lock'),
    record: { path: join(state, 'x.pid'), head: { service: 'x' } },
    ...more,
  });
  return { state, options, mark: `FORKBEARD_RUN_ID=${runId}` };
}

function nothingLeft({ state, mark }: ReturnType<typeof service>): void {
  expect(readdirSync(state).filter((name) => name !== 'x.lock')).toEqual([]);
  expect(lockHolders(join(state, 'x.lock'))).toEqual([]);
  expect(marked(mark)).toEqual([]);
}

const own = { uid: process.getuid?.() as number, gid: process.getgid?.() as number };

describe.runIf(process.platform === 'linux')('a service that does not start because', () => {
  test.each<[string, keyof typeof errors, string, Partial<ShimOptions>?]>([
    ['fork', 'EAGAIN', 'fork'],
    ['fork', 'ENOMEM', 'fork'],
    ['pipe2', 'EMFILE', 'pipe'],
    ['setpgid', 'EPERM', 'setpgid'],
    // NFS without its lock daemon.
    ['flock', 'ENOLCK', 'lock'],
    ['setsid', 'EPERM', 'setsid', { group: 'session' }],
    ['setpriority', 'EACCES', 'setpriority', { settings: { nice: 0 } }],
    ['prlimit', 'EPERM', 'setrlimit', { settings: { rlimits: { core: { soft: 0 } } } }],
    ['chdir', 'EACCES', 'chdir', { settings: { cwd: '/' } }],
    ['setgroups', 'EPERM', 'setgroups', { settings: { groups: [0] } }],
    ['setresgid', 'EPERM', 'setgid', { settings: { gid: own.gid } }],
    ['setresuid', 'EPERM', 'setuid', { settings: { uid: own.uid } }],
    ['setresuid', 'EAGAIN', 'setuid', { settings: { uid: own.uid } }],
    ['prctl', 'EPERM', 'parentDeathSignal'],
    ['execve', 'ENOMEM', 'exec'],
    ['execve', 'EAGAIN', 'exec'],
  ])('of %s with %s says so, and nothing is left', async (call, code, step, more) => {
    const number = call in calls ? calls[call as keyof typeof calls][arch] : call;
    const x = service(more);
    // Only its first: the shim makes some of them for itself.
    const { heard } = start(`${number} 1 1 ${errors[code]}`, x.options);
    await heard.until('gone');
    expect(heard.names).toEqual(['refused', 'gone']);
    expect(heard.error).toMatchObject({ code, step, syscall: 'spawn' });
    nothingLeft(x);
  });

  test('the machine has no descriptor for any one of its steps is refused whole, until there is one for all', async () => {
    let refused = 0;
    for (let call = 1; ; call++) {
      const state = service();
      const { heard } = start(`descriptors ${call} ${call} ${errors.ENFILE}`, state.options);
      await heard.until('gone');
      nothingLeft(state);
      if (heard.error === undefined) {
        expect(heard.start).toMatchObject({ adopts: true, startTime: expect.any(Number) });
        expect(heard.exit).toMatchObject({ exitCode: 6 });
        break;
      }
      expect(heard.error).toMatchObject({ code: 'ENFILE' });
      refused++;
    }
    // Its lock, the pipe of what it says, two for the birth, its record and what is read for that.
    expect(refused).toBeGreaterThanOrEqual(7);
  });
});

test.runIf(process.platform === 'linux')(
  'a supervisor that comes back waits while its shim has no descriptor for it, and is answered then',
  async () => {
    const x = service();
    const short = join(x.state, 'short');
    writeFileSync(short, '');
    const path = join(x.state, 'x.sock');
    const { shim, heard } = start(`accept4 1 0 ${errors.ENFILE} ${short}`, {
      ...x.options,
      command: ['sleep', '1000'],
      independent: { path, lease: 0 },
    });
    const { shim: pid } = (await heard.until('started')).start as { shim: number };
    shim.disconnect();
    const again = new Recorder();
    const found = Shim.adopt(loop, path, again, (peer) => peer.pid === pid);
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(again.names).toEqual([]);
    execFileSync('rm', [short]);
    await again.until('started');
    found.stop([{ signal: 'KILL', wait: 5000 }]);
    await again.until('empty');
    found.dismiss();
    await again.until('gone');
    await eventually('its end', () => marked(x.mark).length === 0);
    nothingLeft(x);
  },
);

/** The disk is small, and goes with its namespace. */
const disk = 'mount -t tmpfs -o size=64k,nr_inodes=32,mode=755 none "$0" && exec "$@"';
const onDisk = (path: string, ...command: string[]) =>
  promisify(execFile)('unshare', ['--mount', '/bin/sh', '-c', disk, path, ...command]);
const mayMount = await onDisk(folder(), '/bin/true').then(
  () => true,
  () => false,
);

test.skipIf(!mayMount)(
  'a state directory on a disk that is full is waited for, one that is read-only is told (needs a mount namespace)',
  async () => {
    const path = folder();
    const { stdout } = await onDisk(path, process.execPath, fixture('full-disk.mjs'), path);
    const { bytes, files, readOnly, failed } = JSON.parse(stdout);
    const end = { survivors: {}, state: 'down', left: ['a.lock'] };
    expect(bytes).toMatchObject(end);
    expect(bytes.messages).toEqual(['refused: ENOSPC: no space left on device, spawn (record)']);
    expect(files).toMatchObject(end);
    for (const message of files.messages)
      expect(message).toMatch(/^refused: ENOSPC: no space left on device, bind '.*\/state\/a\.\w+\.notify'$/);
    expect(readOnly).toMatchObject({
      state: 'failed',
      problem: expect.stringMatching(/^EROFS: read-only file system, bind '/),
      again: 'running',
    });
    expect(failed).toBe(1);
  },
);
