/** Orphans and the deaths of parents: cases of fixtures/lineage.mjs, each in a process group of its own. */
import { describe, expect, test } from 'vitest';
import { seenBy } from './support.ts';

const seen = (name: string, env: Record<string, string> = {}) => seenBy('lineage.mjs', [name], { env });

describe.runIf(process.platform === 'linux')('a subreaper', () => {
  test('is the parent of orphans and learns how they end', async () => {
    expect(await seen('adopts')).toEqual({ signal: 'SIGTERM', stolen: false });
  });

  test('takes nothing from node:child_process', async () => {
    expect(await seen('bystander')).toEqual({ code: 3 });
  });
});

describe.runIf(process.platform === 'linux')('orphans that nobody knows', () => {
  test('are reaped, those that ended before and those that end later', async () => {
    expect(await seen('reapsOrphans')).toEqual({
      first: true,
      ends: [0, 3, 'SIGTERM'],
      left: '',
      refused: { code: 'ERR_FORKBEARD_INVALID_ARG_TYPE' },
    });
  });

  test('are told from the children of everybody else', async () => {
    expect(await seen('stormOfOthers')).toEqual({
      wrong: [],
      strangers: 0,
      some: true,
      left: '',
    });
  });
});

describe.runIf(process.platform === 'linux')('a parent-death signal', () => {
  test('comes when the parent ends', async () => {
    expect(await seen('parentDies')).toEqual({ signal: 'SIGUSR2', inTime: 1 });
  });

  test('that was set too late is told of', async () => {
    expect(await seen('tooLate')).toEqual({ exitCode: 5, late: -1, actual: 1 });
  });
});

describe.runIf(process.platform === 'linux')('both', () => {
  test('are the main thread’s, and take no nonsense', async () => {
    const worker = 'ERR_WORKER_UNSUPPORTED_OPERATION';
    expect(await seen('refusals')).toEqual({
      messages: [worker, worker, worker],
      signal: { code: 'ERR_FORKBEARD_UNKNOWN_SIGNAL' },
      parent: { code: 'ERR_FORKBEARD_OUT_OF_RANGE' },
      fraction: { code: 'ERR_FORKBEARD_OUT_OF_RANGE' },
    });
  });

  test('say ENOSYS where the kernel has neither', async () => {
    const refused = { code: 'ENOSYS', syscall: 'prctl' };
    const missing = { FORKBEARD_PRETEND_MISSING: 'subreaper,parent_death' };
    expect(await seen('missing', missing)).toEqual({ reaper: refused, signal: refused });
  });
});
