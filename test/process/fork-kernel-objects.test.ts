/** Loops across a fork, on every backend: whose kernel objects are whose. */
import { describe, expect, test } from 'vitest';
import { runFixture } from './programs.ts';
import { backends } from './support.ts';

const missing = ['', 'pidfd_open'];

describe.each(backends)('a fork beside a loop on %s', (backend) => {
  test.each(missing)('leaves each process its own, FORKBEARD_PRETEND_MISSING=%j', async (name) => {
    const { said, stderr, exitCode } = await runFixture('fork-kernel-objects.mjs', {
      args: ['close'],
      env: { FORKBEARD_LOOP: backend, FORKBEARD_PRETEND_MISSING: name },
    });
    expect(stderr).toBe('');
    expect(said).toEqual({
      exitCode: 7,
      seen: ['timer', 'to the parent'],
      signal: 'SIGKILL',
      child: { backend, parents: 'ERR_FORKBEARD_LOOP_FORKED', own: 'turns', program: 'program' },
    });
    expect(exitCode).toBe(0);
  });

  test.each(missing)('can be taken over by the child, FORKBEARD_PRETEND_MISSING=%j', async (name) => {
    const { said, stderr, exitCode } = await runFixture('fork-kernel-objects.mjs', {
      args: ['postFork'],
      env: { FORKBEARD_LOOP: backend, FORKBEARD_PRETEND_MISSING: name },
    });
    expect(stderr).toBe('');
    expect(said).toMatchObject({
      exitCode: 7,
      seen: ['timer', 'to the parent'],
      signal: 'SIGKILL',
      child: { backend, taken: ['to the child', 'turns'], own: 'turns', program: 'program' },
    });
    expect((said as { child: object }).child).not.toHaveProperty('uncaught');
    expect(exitCode).toBe(0);
  });
});
