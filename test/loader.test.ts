/** What a program sees where the addon cannot be loaded. Each case is a process of its own. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

interface Refusal {
  name: string;
  code: string;
  message: string;
  cause?: string;
}

/** Imports the package in a process of its own, after `before` has run there. */
function imported({
  before = '',
  flags = [] as string[],
  env = {} as Record<string, string>,
}): Refusal | 'loaded' {
  const program = `
    ${before}
    import('forkbeard').then(
      () => 'loaded',
      ({ name, code, message, cause }) => ({ name, code, message, cause: cause?.code }),
    ).then((result) => console.log(JSON.stringify(result)));
  `;
  const output = execFileSync(process.execPath, [...flags, '-e', program], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return JSON.parse(output);
}

describe('loading the addon', () => {
  test('a platform without the system calls is refused by name', () => {
    const windows = `Object.defineProperty(process, 'platform', { value: 'win32' });`;
    expect(imported({ before: windows })).toMatchObject({
      code: 'ERR_FORKBEARD_UNSUPPORTED_PLATFORM',
      message: expect.stringContaining('win32'),
    });
  });

  test('with standard descriptors closed the process goes on', () => {
    const before = `const { closeSync } = require('node:fs'); closeSync(0); closeSync(2);`;
    expect(imported({ before, env: { FORKBEARD_NATIVE: '' } })).toBe('loaded');
  });

  test('--no-addons is named as what stands in the way, and the original error is the cause', () => {
    expect(imported({ flags: ['--no-addons'] })).toMatchObject({
      code: 'ERR_FORKBEARD_ADDONS_DISABLED',
      message: expect.stringContaining('--no-addons'),
      cause: 'ERR_DLOPEN_DISABLED',
    });
  });

  test('the permission model needs --allow-addons, and the error says so', () => {
    const permission =
      Number(process.versions.node.split('.')[0]) < 22 ? '--experimental-permission' : '--permission';
    const flags = [permission, '--allow-fs-read=*'];
    expect(imported({ flags })).toMatchObject({
      code: 'ERR_FORKBEARD_ADDONS_DISABLED',
      message: expect.stringContaining('--allow-addons'),
    });
    expect(imported({ flags: [...flags, '--allow-addons'] })).toBe('loaded');
  });

  test('without a binary the error names the system and the command that builds one', () => {
    const empty = mkdtempSync(join(tmpdir(), 'forkbeard-'));
    try {
      expect(imported({ env: { FORKBEARD_NATIVE: empty } })).toMatchObject({
        code: 'ERR_FORKBEARD_NO_BINARY',
        message: expect.stringMatching(new RegExp(`${process.platform}-${process.arch}.*node-gyp rebuild`)),
        cause: 'MODULE_NOT_FOUND',
      });
    } finally {
      rmSync(empty, { recursive: true });
    }
  });
});
