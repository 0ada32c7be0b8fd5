/** A shim in bad times: floods, storms of children, folders and descriptors that are not there, stopped processes. */
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Loop, sys } from 'forkbeard';
import { expect, onTestFinished, test } from 'vitest';
import { Shim, type ShimOptions } from '../../dist/supervisor/shim.js';
import { alive, coupled, eventually, folder, Recorder } from './support.ts';
import { pidOf, Watched } from './watched.ts';

function start(script: string, more: Partial<ShimOptions> = {}): { shim: Shim; heard: Recorder } {
  const heard = new Recorder();
  const shim = Shim.start(Loop.current(), coupled(script, more), heard);
  onTestFinished(async () => {
    shim.stop([{ signal: 'KILL', wait: 5000 }]);
    await heard.until('gone');
  });
  return { shim, heard };
}

const traces = (path: string): Pick<ShimOptions, 'lock' | 'record'> => ({
  lock: join(path, 'x.lock'),
  record: { path: join(path, 'x.pid'), head: { service: 'x' } },
});

test('a service that floods is held up while nobody reads, and nothing is lost', async () => {
  const { heard } = start('head -c 20000000 /dev/zero; exit 5');
  const { shim } = (await heard.until('started')).start as { shim: number };
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
  const [, resident] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${shim}/status`, 'latin1')) ?? [];
  if (process.env['FORKBEARD_TEST_SANITIZER'] === undefined) expect(Number(resident)).toBeLessThan(8192);
  await heard.until('exited');
  expect(heard.text).toHaveLength(20_000_000);
  expect(heard.exit).toMatchObject({ exitCode: 5 });
});

test('a service that floods has a part of each turn, and the others have theirs', async () => {
  const { heard } = start('head -c 4000000 /dev/zero; exit 5');
  let before = 0;
  let most = 0;
  let over = false;
  const turn = () => {
    most = Math.max(most, heard.text.length - before);
    before = heard.text.length;
    if (!over) setImmediate(turn);
  };
  await heard.until('started');
  // Until there is more to be read than one turn may take.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
  turn();
  await heard.until('exited');
  over = true;
  expect(heard.text).toHaveLength(4_000_000);
  expect(most).toBeLessThanOrEqual(3 * 16_384);
});

test('a service that closes what it should write to runs on', async () => {
  const { shim, heard } = start('echo first; exec >&- 2>&-; kill -STOP $$; exec sleep 1000');
  await heard.says('first');
  await eventually('a stop', () => /\) T /.test(readFileSync(`/proc/${heard.pid}/stat`, 'latin1')));
  await shim.signal('SIGCONT');
  expect(heard.names).not.toContain('exited');
  expect(alive(heard.pid)).toBe(true);
});

test('five hundred orphans at once are all reaped, and the end is told once', async () => {
  const { heard } = start('i=0; while [ $i -lt 500 ]; do (true &); i=$((i+1)); done; exit 9');
  await heard.until('empty');
  expect(heard.names.filter((name) => name === 'exited')).toHaveLength(1);
  expect(heard.exit).toMatchObject({ exitCode: 9 });
});

test('a state directory that is gone refuses a start, with the step', async () => {
  const path = folder();
  rmSync(path, { recursive: true });
  const { heard } = start('exec sleep 1000', traces(path));
  await heard.until('refused');
  expect(heard.error).toMatchObject({ code: 'ENOENT', step: 'lock' });
});

test('a record that cannot be written refuses a start, and leaves neither process nor lock', async () => {
  const path = folder();
  const record = { path: join(path, 'x'.repeat(255)), head: { service: 'x' } };
  const { heard } = start('exec sleep 1000', { ...traces(path), record });
  await heard.until('refused');
  expect(heard.error).toMatchObject({ code: 'ENAMETOOLONG', step: 'record' });
  await heard.until('gone');
  const again = start('exec sleep 1000', traces(path));
  await again.heard.until('started');
});

test('a state directory that goes meanwhile is in nobody’s way', async () => {
  const path = folder();
  const { shim, heard } = start('exec sleep 1000', traces(path));
  await heard.until('started');
  rmSync(path, { recursive: true });
  shim.stop([{ signal: 'TERM', wait: 5000 }]);
  await heard.until('empty');
  expect(alive(heard.pid)).toBe(false);
});

test('a shim that somebody has stopped is woken by a stop', async () => {
  const { shim, heard } = start('exec sleep 1000');
  const { shim: pid } = (await heard.until('started')).start as { shim: number };
  process.kill(pid, 'SIGSTOP');
  await eventually('a stop', () => /\) T /.test(readFileSync(`/proc/${pid}/stat`, 'latin1')));
  shim.stop([{ signal: 'TERM', wait: 5000 }]);
  await heard.until('empty');
  expect(alive(heard.pid)).toBe(false);
});

const limit = (value: string) => spawnSync('prlimit', ['--pid', String(process.pid), `--nofile=${value}:`]);
const [, before = ''] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1')) ?? [];

test('without descriptors a start fails with EMFILE and takes none; later it works', async () => {
  expect(limit('256').status).toBe(0);
  const taken: number[] = [];
  let failures = 0;
  let heard: Recorder | undefined;
  try {
    try {
      for (;;) taken.push(sys.dup(0));
    } catch (error) {
      expect(error).toMatchObject({ code: 'EMFILE' });
    }
    // One more each time: it fails wherever it stands then, until there are enough.
    while (heard === undefined) {
      sys.close(taken.pop() as number);
      try {
        ({ heard } = start('exit 4'));
      } catch (error) {
        expect(error).toMatchObject({ code: 'EMFILE' });
        failures++;
      }
    }
  } finally {
    for (const fd of taken) sys.close(fd);
    limit(before);
  }
  expect(failures).toBeGreaterThan(0);
  await heard.until('exited');
  expect(heard.exit).toMatchObject({ exitCode: 4 });
});

test('a service that ends while we have no descriptors is started when there are some, however long that is', async () => {
  const x = new Watched('exec sleep 1000');
  await x.it.start();
  expect(limit('256').status).toBe(0);
  const taken: number[] = [];
  try {
    expect(() => {
      for (;;) taken.push(sys.dup(0));
    }).toThrow(expect.objectContaining({ code: 'EMFILE' }));
    process.kill(pidOf(x), 'SIGKILL');
    // One end of its own and more refusals than it may have restarts.
    await x.nth('backoff', 9);
  } finally {
    for (const fd of taken) sys.close(fd);
    limit(before);
  }
  await x.nth('ready', 2);
  const [first, ...refused] = x.of('backoff');
  expect(first).toMatchObject({ cause: 'exit' });
  for (const { cause, message } of refused) {
    expect(cause).toBe('refused');
    expect(message).toContain('EMFILE');
  }
  // They wait longer and longer all the same.
  expect(refused.slice(0, 4).map(({ delay }) => delay)).toEqual([20, 40, 80, 100]);
  expect(x.of('failed')).toEqual([]);
});
