/** When the kernel has no room, for descriptors or for watching them: it is said, and nothing is left behind. */
import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fixture, linux, nodeEnv, runFixture } from './programs.ts';
import { compile } from './support.ts';

/** Backends, and what they are to do without. */
const variants: [backend: string, missing: string][] = [
  ['epoll', ''],
  ['epoll', 'pidfd_open'],
  ['epoll', 'vfork'],
  ['epoll', 'vfork,clone_pidfd'],
  ['poll', ''],
  ['poll', 'pidfd_open,vfork'],
];

describe.runIf(linux)('with ever more descriptors left, until a program starts', () => {
  test.each(variants)('on %s without %j', async (backend, missing) => {
    const { said, stderr } = await runFixture('descriptor-limit.mjs', {
      env: { FORKBEARD_LOOP: backend, FORKBEARD_PRETEND_MISSING: missing },
    });
    expect(stderr).toBe('');
    // The pidfd that comes with a child is the last that is missing.
    const refused = ['EMFILE spawn pipe', ...(/pidfd/.test(missing) ? [] : ['EMFILE spawn fork'])];
    const making = backend === 'epoll' ? ['EMFILE epoll_create1'] : ['EMFILE eventfd', 'EMFILE uv_poll_init'];
    const outcomes = { onceRun: ['said 3', ...refused], fresh: ['said 3', ...making, ...refused] };
    expect(said).toEqual({ spawn: outcomes, runProcess: outcomes });
  });
});

describe.runIf(linux)('with ever more descriptors that can be watched, until all can', () => {
  let program: string;
  let remove: () => void;
  beforeAll(() => {
    ({ program, remove } = compile('refuses-watches'));
  });
  afterAll(() => remove());

  test.for(variants)('on %s without %j', async ([backend, missing], { skip }) => {
    const FIRST = '120';
    const { stdout, stderr, status } = spawnSync(
      program,
      [FIRST, process.execPath, fixture('refused-watches.mjs'), FIRST],
      {
        encoding: 'utf8',
        env: { ...nodeEnv(), FORKBEARD_LOOP: backend, FORKBEARD_PRETEND_MISSING: missing },
      },
    );
    if (status === 77) skip('no seccomp filters here');
    expect(stderr).toBe('');
    // poll needs no room at all.
    const refused = (most: number, ...how: string[]) =>
      backend === 'poll' ? { most: 0, how: [] } : { most, how };
    const nothingLeft = {
      runProcess: { ...refused(5, 'ENOSPC epoll_ctl watch SIGKILL'), last: String(1 << 20) },
      spawn: { ...refused(3, 'ENOSPC epoll_ctl'), last: String(1 << 20) },
      call: { ...refused(3, 'ENOSPC epoll_ctl'), last: 'answer' },
      forkSync: { ...refused(1, 'ENOSPC epoll_ctl'), last: 7 },
    };
    expect(JSON.parse(stdout)).toEqual(nothingLeft);
  });
});
