/**
 * Forks of a process in which another addon has threads and memory of its own, keeps V8's threads busy, or spoils the
 * child at its birth. The addon, fixtures/fork-companion.cc, is compiled here for the Node that the tests run on.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runForks, saw } from './forks.ts';
import { fixture, node } from './support.ts';

const UNSAFE = 'ERR_FORKBEARD_FORK_UNSAFE';
const BUSY = 'ERR_FORKBEARD_FORK_BUSY';
const HUNG = 'ERR_FORKBEARD_FORK_HUNG';

let folder: string;
let addon: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'forkbeard-companion-'));
  addon = join(folder, 'companion.node');
  const headers = join(dirname(node), '../include/node');
  // As Node itself is compiled: a class of V8's has no type information to derive from.
  const flags = ['-std=c++20', '-fno-rtti', '-fPIC', '-shared', '-pthread', '-Wno-deprecated-declarations'];
  execFileSync('c++', [...flags, `-I${headers}`, '-o', addon, fixture('fork-companion.cc')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const seen = <T = unknown>(name: string) => saw<T>('fork-hazards.mjs', name, addon);

describe('threads of another addon', () => {
  test('are named with what they do; one that runs refuses the fork, one that sleeps does not', async () => {
    const refused = { code: UNSAFE, hazards: ['UNKNOWN_THREADS'] };
    expect(await seen('threads')).toMatchObject({
      before: null,
      sleeping: { blocking: false, message: expect.stringContaining('sleeper (sleeping)'), forked: 7 },
      between: null,
      running: {
        blocking: true,
        message: expect.stringContaining('a) R (spinner (running)'),
        refused,
        refusedSync: refused,
        refusedCall: refused,
        forced: 7,
      },
      after: null,
      forked: 7,
    });
  });
});

describe('memory that another addon has marked MADV_DONTFORK', () => {
  test('stays marked in the parent and is not in the child, whether it was there first or came later', async () => {
    expect(await seen('foreignPages')).toEqual({
      before: [true, true],
      inChild: [null, null],
      afterwards: [true, true],
      sync: 5,
      last: [true, true],
    });
  });
});

describe('libuv’s clock', () => {
  test('is set in the child, however late it was in the parent', async () => {
    const { here, inChild } = await seen<{ here: number; inChild: number }>('clock');
    expect(here).toBeGreaterThanOrEqual(1990);
    expect(inChild).toBeLessThan(1900);
  });
});

describe('what C libraries do at the exit of a process', () => {
  test('is left to the parent', async () => {
    const { result, stderr } = await runForks('fork-hazards.mjs', ['atExit', addon]);
    expect(result).toEqual([7, 8, 0, 9]);
    expect(stderr).toBe('parent\natexit\n');
  });
});

describe('a fork for which no quiet moment comes', () => {
  test('rejects after quiesceTimeout while libuv’s pool works, and works when that is done', async () => {
    const { busy, ...rest } = await seen<{ busy: { code: string; ms: number } }>('busyPool');
    expect(busy.code).toBe(BUSY);
    expect(busy.ms).toBeGreaterThanOrEqual(100);
    expect(rest).toEqual({ afterwards: 7, left: '' });
  });

  test('rejects after quiesceTimeout while one of V8’s threads works, whose others go on', async () => {
    type Failure = { code: string; ms: number };
    const { busy, busySync, ...rest } = await seen<{ busy: Failure; busySync: Failure }>('busyV8');
    for (const { code, ms } of [busy, busySync]) {
      expect(code).toBe(BUSY);
      expect(ms).toBeGreaterThanOrEqual(100);
    }
    expect(rest).toEqual({ busyCall: BUSY, works: true, waited: 7, sync: 7, leaked: 0 });
  });
});

describe('what V8’s threads have not begun when the process forks', () => {
  test('is done in the child as well, whose loop it wakes', async () => {
    expect(await seen('queued')).toEqual([]);
  });
});

describe('a child that comes to nothing', () => {
  test('is killed when it gives no sign of life, and nothing is left of it', async () => {
    type Hung = { code: string; ms: number; pid: number };
    const { hung, hungCall, ...rest } = await seen<{ hung: Hung; hungCall: Hung }>('hangs');
    for (const { code, ms, pid } of [hung, hungCall]) {
      expect(code).toBe(HUNG);
      expect(ms).toBeGreaterThanOrEqual(10_000);
      expect(pid).toBeGreaterThan(0);
    }
    expect(rest).toEqual({ leaked: 0, left: '', afterwards: 7 });
  });

  test('is told of with its exit code when it ends before its code begins', async () => {
    expect(await seen('dies')).toMatchObject({
      died: { code: 'ERR_FORKBEARD_FORK_DIED', exitCode: 3 },
      sync: 3,
      leaked: 0,
      left: '',
      afterwards: 7,
    });
  });
});

describe('a fork without memory', () => {
  test('rejects with ENOMEM; V8’s pages are marked and its threads work as before', async ({ skip }) => {
    const result = await seen<Record<string, unknown>>('noMemory');
    if (result['skipped'] !== undefined) skip(String(result['skipped']));
    const refused = { code: 'ENOMEM', syscall: 'fork' };
    expect(result).toMatchObject({
      refused,
      refusedSync: refused,
      kept: true,
      works: true,
      afterwards: 7,
      leaked: 0,
    });
  });
});
