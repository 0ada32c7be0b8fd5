/** Numbers of processes that come again, provoked in a pid namespace. */
import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
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
const isAllowed =
  process.platform === 'linux' && inNamespace('echo 500 > /proc/sys/kernel/ns_last_pid').status === 0;

test.skipIf(!isAllowed)(
  'a record whose numbers are strangers’ by now is neither believed nor acted on (needs a pid namespace and ns_last_pid)',
  () => {
    // The shell is the namespace's first process, and buries what has nobody else.
    const script = '"$0" "$@"; exit $?';
    const { stdout, stderr } = inNamespace(script, node, fixture('reuses-pids.mjs'), folder());
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
