import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import {
  fixture,
  loopsOfTest,
  PATIENCE,
  processState,
  seenBy,
  signalSet,
  unsanitized,
  ways,
  without,
} from './support.ts';

// With pidfds that name groups, with pidfds of older kernels (the leader of a group is kept until the group is empty),
// and with SIGCHLD alone.
const kernels = [
  { kernel: 'this kernel', missing: '' },
  { kernel: 'no groups by pidfd', missing: 'pidfd_group' },
  { kernel: 'no pidfd', missing: 'pidfd_open' },
];

describe.each(ways.flatMap((way) => kernels.map((kernel) => ({ ...way, ...kernel }))))(
  'a child, $backend, $mode, $kernel',
  ({ backend, mode, missing }) => {
    test('keeps what it promises about its end, its signals and its group', async () => {
      expect(await seenBy('children.mjs', [mode, backend], without(missing))).toEqual({
        end: {
          exit: { exitCode: 3, signal: null, coreDumped: false, status: 768, stolen: false },
          same: true,
          state: 'gone',
          kill: 'ESRCH',
          killZero: 'ESRCH',
          stop: true,
        },
        deadUntold: ['ESRCH', 0],
        signals: ['SIGTERM', 'SIGHUP', 'SIGKILL', 'SIGUSR1'].map((signal) => [null, signal]),
        wrongSignals: [
          'ERR_FORKBEARD_UNKNOWN_SIGNAL',
          'ERR_FORKBEARD_UNKNOWN_SIGNAL',
          'ERR_FORKBEARD_INVALID_ARG_TYPE',
        ],
        killGroupWithoutGroup: ['ERR_FORKBEARD_GROUP_NOT_OWNED', 0],
        stop: { polite: 9, twice: ['SIGTERM', 'SIGTERM'], otherSignal: 8, deaf: ['SIGKILL', true] },
        group: { leads: [true, true], afterwards: 'ESRCH' },
        orphaned: {
          leader: 4,
          same: true,
          single: 'ESRCH',
          waited: true,
          afterwards: 'ESRCH',
          leaderState: 'gone',
        },
        session: [true, false],
        disposed: 'SIGTERM',
        watched: [6, 6, 6],
        closed: ['SIGINT', ['SIGINT'], 'gone', 'SIGKILL', 'gone'],
        wrongOptions: [
          [
            'ERR_FORKBEARD_INVALID_ARG_TYPE',
            'ERR_FORKBEARD_UNKNOWN_OPTION',
            'ERR_FORKBEARD_OUT_OF_RANGE',
            'ERR_FORKBEARD_OUT_OF_RANGE',
            'ERR_FORKBEARD_INVALID_ARG_TYPE',
            'ERR_FORKBEARD_UNKNOWN_SIGNAL',
          ],
          null,
        ],
        descriptorsLeft: 0,
      });
    });
  },
);

describe('a child', () => {
  const make = loopsOfTest();

  test("that is ref'ed keeps the process alive, one that is not does not", async () => {
    const printed = (how: string) =>
      execFileSync(process.execPath, [fixture('child-ref.mjs'), how], { encoding: 'utf8' });
    expect(printed('ref')).toBe('child ended, then ended\n');
    expect(printed('unref')).toBe('ended\n');
  });

  test('ends a blocking run by the promise of its end', async () => {
    const loop = make();
    // Not from within a promise's reaction, as this function is: no other could run meanwhile. And the child starts there,
    // or its end might be told before there is a run that it could end.
    const result = await new Promise((resolve) =>
      setImmediate(() => {
        const child = loop.spawn({ command: ['sh', '-c', 'exit 5'] });
        void child.exited.then((exit) => loop.stop(exit.exitCode));
        resolve(loop.runSync<number>());
      }),
    );
    expect(result).toBe(5);
  });

  test('is reaped though nobody asks for its end', async () => {
    const loop = make();
    const { pid } = loop.spawn({ command: 'true' });
    while (processState(pid) !== undefined) loop.runOnce(PATIENCE / 100);
  });

  test('does not inherit what the loop watches or this process ignores', async () => {
    const loop = make();
    for (const signal of ['USR2', 'HUP', 'CHLD', 'RTMIN+1']) loop.watchSignal(signal, () => {});
    const child = loop.spawn({ command: ['sleep', '1000'], env: unsanitized });
    const sets = (['SigBlk', 'SigIgn', 'SigCgt'] as const).map((line) => signalSet(line, child.pid));
    await child.stop({ signal: 'KILL' });
    expect(sets).toEqual([[], [], []]);
  });

  test('whose onExit throws is reaped, and its end is told to the others', async () => {
    const loop = make();
    const failure = new Error('thrown by onExit');
    const child = loop.spawn({
      command: 'true',
      onExit: () => {
        throw failure;
      },
    });
    let told: number | null = null;
    loop.watchProcess(child.pid, (exit) => {
      told = exit.exitCode;
    });
    expect(() => loop.runOnce(PATIENCE)).toThrow(failure);
    expect([told, processState(child.pid), (await child.exited).exitCode]).toEqual([0, undefined, 0]);
  });

  test('of a thousand tells of its end at once', async () => {
    const loop = make();
    const sleep = { command: ['sleep', '1000'], env: unsanitized } as const;
    const children = Array.from({ length: 1000 }, () => loop.spawn(sleep));
    for (const child of children) child.kill('KILL');
    const exits = await Promise.all(children.map((child) => child.exited));
    expect(exits.every((exit, i) => exit.signal === 'SIGKILL' && exit.pid === children[i]?.pid)).toBe(true);
    expect(children.filter((child) => processState(child.pid) !== undefined)).toEqual([]);
  });
});
