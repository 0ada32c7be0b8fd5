/** docs/children-and-signals.md: each of its programs runs as it stands there and says what it is there for. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const guide = readFileSync(new URL('../../docs/children-and-signals.md', import.meta.url), 'utf8');
const root = process.getuid?.() === 0;

/** By heading; the first stands above all. */
const programs = new Map(
  [...guide.matchAll(/^#+ (.+)\n(?:(?!^#)[\s\S])*?```js\n([\s\S]*?)```/gm)].map(([whole, title, source]) => [
    title as string,
    { source: source as string, needsRoot: whole.includes('<!-- needs root -->') },
  ]),
);

/** What they print. */
const said: Record<string, RegExp> = {
  'Children and signals': /^\w+ 0\n$/,
  'Run a command': /^two\nthree\none\n\n$/,
  'Stream its output': /^line 1\nline 2\nline 3\nline 4\nline 5\nended with 0\n$/,
  'Kill a whole tree': /^nothing of it is left\n$/,
  'Give it a limit': /^64\n0\n$/,
  'Drop its privileges': /^uid=65534\(.*\) gid=65534\(.*\) groups=65534\([^,]*\)\n$/,
  'Watch a process that is not mine': /^watching true\n\d+ ended with 0\n$/,
  'End it when I die': /^$/,
  'See a worker that hangs, and let none outlive its master': /\bat hang .*\n47\n$/s,
  'Be the parent of orphans': /^orphan \d+ ended with 0\n$/,
  'Hand it descriptors': /^$/,
  'End politely on SIGTERM': /^SIGTERM from process \d+ of user \d+\n$/,
};

describe('the guide to children and signals', () => {
  test('has these programs', () => {
    expect([...programs.keys()]).toEqual(expect.arrayContaining(Object.keys(said)));
  });

  for (const [title, { source, needsRoot }] of programs) {
    test.skipIf(needsRoot && !root)(title, () => {
      const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', source], {
        // Where the package knows itself by its name.
        cwd: fileURLToPath(new URL('../..', import.meta.url)),
        encoding: 'utf8',
      });
      expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
      expect(stdout).toMatch(said[title] ?? /./);
    });
  }
});
