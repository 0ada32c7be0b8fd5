/** A shim that is killed while it starts its service, at each of its steps: the service is started anew, once. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { lockHolders } from '../../dist/supervisor/state.js';
import { children } from '../process/programs.ts';
import { processState } from '../process/support.ts';
import { alive, environment, eventually, fixture, folder, marked } from './support.ts';
import { pidOf, Watched } from './watched.ts';

const built = folder();
let library = '';

/** The next shim stops there. */
function halt(at: string): void {
  if (library === '') {
    library = join(built, 'halts.so');
    execFileSync('cc', ['-O1', '-shared', '-fPIC', '-o', library, fixture('halts.c')]);
  }
  const flag = join(folder(), 'halt');
  writeFileSync(flag, '');
  const { LD_PRELOAD: before } = process.env;
  process.env['LD_PRELOAD'] = before ? `${before}:${library}` : library;
  process.env['FORKBEARD_TEST_HALT'] = flag;
  process.env['FORKBEARD_TEST_HALT_AT'] = at;
  onTestFinished(() => {
    if (before === undefined) delete process.env['LD_PRELOAD'];
    else process.env['LD_PRELOAD'] = before;
    delete process.env['FORKBEARD_TEST_HALT'];
    delete process.env['FORKBEARD_TEST_HALT_AT'];
  });
}

const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);

describe.runIf(process.platform === 'linux')('killed', () => {
  const kinds = [
    ['coupled', null],
    ['independent', { lease: 3_600_000 }],
  ] as const;
  const stages = [
    ['before it has its lock', 'lock', { files: [], holds: 0, children: 0 }],
    ['when a process waits for its record', 'record', { files: [], holds: 1, children: 1 }],
    [
      'when that is written, and the process waits to be let go',
      'recorded',
      { files: ['x.pid'], holds: 1, children: 1 },
    ],
    ['when the program runs, and nobody knows', 'begun', { files: ['x.pid'], holds: 1, children: 1 }],
  ] as const;
  const cells = kinds.flatMap(([kind, independent]) =>
    stages.map((stage) => [kind, ...stage, independent] as const),
  );

  test.each(cells)('as that of what is %s, %s', async (_kind, _stage, at, then, independent) => {
    const state = folder();
    const mark = `FORKBEARD_TEST_HALF=${state}`;
    const env = environment({ FORKBEARD_TEST_HALF: state });
    halt(at);
    const x = new Watched('exec sleep 1000', { env, independent }, state);
    const started = x.it.start();
    let shim = 0;
    await eventually('a shim that has stopped', () => {
      shim = children().find((pid) => processState(pid) === 'T') ?? 0;
      return shim !== 0;
    });
    const { lock } = x.state.of('x');
    const held = lockHolders(lock)?.length;
    const files = readdirSync(state).filter((name) => name === 'x.pid');
    const orphans = childrenOf(shim);
    expect({ files, holds: held, children: orphans.length }).toEqual(then);
    process.kill(shim, 'SIGKILL');

    const { pid, restarts } = await started;
    expect(restarts).toBe(1);
    expect(x.of('backoff')).toEqual([
      expect.objectContaining({ message: 'The shim ended before the service began' }),
    ]);
    expect(x.of('started')).toEqual([expect.objectContaining({ pid })]);
    // What is coupled ends with its shim; whether that is before we look is not ours to say.
    if (independent !== null && at === 'begun') {
      expect(x.of('orphans')).toMatchObject([{ orphans: [{ pid: orphans[0], spared: null }] }]);
    }
    await eventually('the end of what there was', () => !orphans.some(alive));
    expect(marked(mark)).toEqual([pid]);
    expect(lockHolders(lock)).toHaveLength(1);
    expect(readdirSync(state).filter((name) => /\.notify$|\.sock\./.test(name))).toHaveLength(1);
    await x.it.stop();
    expect(readdirSync(state)).toEqual(['x.lock']);
    expect(pidOf(x)).toBe(null);
  });
});
