/** Numbers of processes: those that come again, those that cannot yet, and those of another namespace. */
import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { node } from '../process/support.ts';
import { fixture, folder } from './support.ts';

const inNamespace = (script: string, ...args: string[]) =>
  spawnSync(
    'unshare',
    ['--pid', '--fork', '--kill-child', '--mount-proc', '/bin/sh', '-c', script, ...args],
    {
      encoding: 'utf8',
    },
  );
// The shell is the namespace's first process, and buries what has nobody else.
const inside = '"$0" "$@"; exit $?';
const isAllowed =
  process.platform === 'linux' && inNamespace('echo 500 > /proc/sys/kernel/ns_last_pid').status === 0;

test.skipIf(!isAllowed)(
  'a record whose numbers are strangers’ by now is neither believed nor acted on (needs a pid namespace and ns_last_pid)',
  () => {
    const { stdout, stderr } = inNamespace(inside, node, fixture('reuses-pids.mjs'), folder());
    expect(stderr).toBe('');
    const told = JSON.parse(stdout) as { events: string[] };
    expect(told).toMatchObject({
      verdict: 'stale',
      state: 'running',
      owned: true,
      isNew: true,
      spared: [true, true],
    });
    for (const event of ['adopted', 'elsewhere', 'orphans', 'stale'])
      expect(told.events).not.toContain(event);
  },
);

test.skipIf(!isAllowed)(
  'a number is nobody’s while one of its group is left, and free afterwards (needs a pid namespace and ns_last_pid)',
  () => {
    const { stdout, stderr } = inNamespace(inside, node, fixture('keeps-number.mjs'));
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual({ meanwhile: 0, afterwards: true });
  },
);

describe('a process table that is not ours', () => {
  const make = "import('forkbeard/supervisor').then(({ Supervisor }) => new Supervisor({ services: {} }))";
  const script = `${make}.catch(({ code, message }) => console.log(code + ': ' + message))`;
  const within = (...command: string[]) =>
    spawnSync('unshare', [...command, node, '-e', script], { encoding: 'utf8' }).stdout;
  const hide = ['--mount', '/bin/sh', '-c', 'mount -t tmpfs none /proc && exec "$0" "$@"'];
  const mayUnshare = spawnSync('unshare', ['--pid', '--fork', '/bin/true']).status === 0;
  const mayHide = spawnSync('unshare', [...hide, '/bin/true']).status === 0;

  test.skipIf(!mayUnshare)('is refused: its numbers are other processes’ (needs a pid namespace)', () => {
    expect(within('--pid', '--fork')).toMatch(
      /^ERR_FORKBEARD_PROCESS_TABLE: .* another pid namespace; mount/,
    );
  });

  test.skipIf(!mayHide)('nor is none (needs a mount namespace)', () => {
    expect(within(...hide)).toMatch(/^ERR_FORKBEARD_PROCESS_TABLE: \/proc is not mounted/);
  });
});
