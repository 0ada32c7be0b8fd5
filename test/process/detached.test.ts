/** Forks whose child is not the caller's: cases of fixtures/detached.mjs, each in a process group of its own. */
import { Loop } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { seenBy } from './support.ts';

const seen = (args: string[], env: Record<string, string> = {}, through: string[] = []) =>
  seenBy('detached.mjs', args, { env, through });

describe.runIf(process.platform === 'linux')('a detached fork', () => {
  test('is a child of the nearest subreaper from the moment when its promise is fulfilled', async () => {
    expect(await seen(['lineage'])).toEqual({
      status: 0,
      same: true,
      parents: [true, true],
      own: 0,
      exit: 'SIGTERM',
      left: [null, 0],
    });
  });

  test('ends without status for the one who forked it, and a signal after its end meets nobody', async () => {
    expect(await seen(['withoutStatus'])).toEqual({
      alive: [null, false],
      exited: { pid: true, exitCode: null, signal: null, coreDumped: false, status: null, stolen: false },
      once: 1,
      gone: { code: 'ESRCH', syscall: 'kill' },
      stopped: true,
    });
  });

  test('cannot be signalled where there are no pidfds; its end is seen', async () => {
    expect(await seen(['withoutPidfd'], { FORKBEARD_PRETEND_MISSING: 'pidfd_open' })).toEqual({
      refused: { code: 'ENOSYS', syscall: 'kill' },
      running: true,
      exitCode: null,
    });
  });

  test('comes back to a process that is the nearest subreaper itself', async () => {
    expect(await seen(['becomesOurs'])).toEqual({ exitCode: 7, sync: 8, left: 0 });
  });

  test('many of them, several at once, leave no zombie and no descriptor', async () => {
    expect(await seen(['many'])).toEqual({ codes: new Array(25).fill(3), growth: 0, left: 0 });
  });

  test('starts programs, forks in both ways and collects garbage', async () => {
    expect(await seen(['works'])).toBe(21);
  });

  test('takes only true and false for an answer', async () => {
    const code = () => 0;
    await expect(Loop.current().fork({ detached: 'yes' as never, code })).rejects.toMatchObject({
      code: 'ERR_FORKBEARD_INVALID_ARG_TYPE',
    });
  });

  test.runIf(process.getuid?.() === 0)(
    'that the kernel refuses, at the first fork or the second, says EAGAIN and leaves nothing',
    async () => {
      const refused = { code: 'EAGAIN', syscall: 'fork', left: 0 };
      expect(await seen(['refused', '0'])).toEqual(refused);
      expect(await seen(['refused', '1'])).toEqual(refused);
      expect(await seen(['refused', '2'])).toEqual({ code: null, left: 0 });
    },
  );

  test('without descriptors is refused with EMFILE', async () => {
    const refused = { code: 'EMFILE', syscall: 'fork' };
    expect(await seen(['noDescriptors'], {}, ['prlimit', '--nofile=200'])).toEqual({
      refused: [refused, refused, refused, null],
      left: 0,
    });
  });
});
