/** Lifelines of processes that really are stuck: cases of fixtures/lifeline.mjs, each in a process group of its own. */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { seenBy } from './support.ts';

const seen = (name: string, ...args: string[]) => seenBy('lifeline.mjs', [name, ...args]);

describe.runIf(process.platform === 'linux')('the lifeline of a process', () => {
  test('ends it with its code when the other end is gone, whatever it is stuck in', async () => {
    expect(await seen('ends')).toEqual(new Array(4).fill([true, 47]));
  });

  test('gives it the time that was said', async () => {
    expect(await seen('grace')).toEqual({ exitCode: 47, waited: true });
  });

  test('tells its JavaScript stack, as often as it is asked', async () => {
    expect(await seen('stacks')).toEqual({
      stuckInLoop: true,
      stuckInEmptyLoop: true,
      stuckInRegexp: true,
      stuckInAtomics: true,
      idle: true,
    });
  });

  test('says that it waits for what cannot be interrupted', async () => {
    expect(await seen('uninterruptible')).toEqual({ state: 2, exitCode: 47 });
  });

  test('marks a heap that reaches its limit, and no other', async () => {
    expect(await seen('heap')).toEqual({ before: 0, signal: 'SIGABRT', mark: 1, other: 0 });
  });

  test('holds without forkbeard_v8, and says what is missing', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'forkbeard-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    copyFileSync(
      join(process.env['FORKBEARD_NATIVE'] as string, 'forkbeard.node'),
      join(folder, 'forkbeard.node'),
    );
    expect(await seen('withoutV8', folder)).toEqual({ exitCode: 47, says: 1 });
  });

  test('stops without a trace, is not in a forked child, and is no hazard of a fork', async () => {
    expect(await seen('stops')).toEqual({
      running: 1,
      twice: 'ERR_FORKBEARD_LIFELINE_RUNNING',
      hazards: 0,
      exitCode: 3,
      still: 1,
      same: true,
      left: 0,
    });
  });

  test('does not keep it from its own end', async () => {
    expect(await seen('exits')).toBe('by itself');
  });

  test('may be asked while the process forks', async () => {
    expect(await seen('forks')).toEqual([5]);
  });

  test('refuses what makes no sense', async () => {
    const range = 'ERR_FORKBEARD_OUT_OF_RANGE';
    expect(await seen('refusals')).toEqual({
      fine: null,
      file: 'ERR_FORKBEARD_INVALID_ARG_VALUE',
      closed: 'EBADF',
      code: range,
      grace: range,
      unknown: 'ERR_FORKBEARD_UNKNOWN_OPTION',
      unaligned: range,
      outside: range,
      small: range,
      beyond: range,
      more: 'EOVERFLOW',
      noMemory: 'ENODEV',
      inWorker: 'ERR_WORKER_UNSUPPORTED_OPERATION',
      threads: 0,
    });
  });
});
