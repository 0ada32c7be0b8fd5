/** Values that every program's options have: times, sizes, addresses, accounts. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { becoming, identity, loginOf } from '../../dist/daemon/accounts.js';
import { formatListen, type ListenTarget, parseListen } from '../../dist/daemon/listen.js';
import { bytes, formatDuration, formatSize, milliseconds } from '../../dist/daemon/units.js';
import { refusal } from './refusal.ts';

const folder = mkdtempSync(join(tmpdir(), 'forkbeard-values-'));
afterAll(() => rmSync(folder, { recursive: true }));

const spell = (option: string) => `--${option}`;

describe('times and sizes', () => {
  it.each([
    ['500ms', 500],
    ['30s', 30_000],
    ['1.5m', 90_000],
    ['5 min', 300_000],
    ['2h', 7_200_000],
    ['1D', 86_400_000],
    ['0', 0],
    [250, 250],
  ])('%s is %d ms', (written, ms) => expect(milliseconds(written)).toBe(ms));

  it.each([
    ['512k', 524_288],
    ['300mb', 314_572_800],
    ['1.5GB', 1_610_612_736],
    ['2gib', 2_147_483_648],
    ['100b', 100],
    [4096, 4096],
  ])('%s is %d bytes', (written, count) => expect(bytes(written)).toBe(count));

  it('wants a unit where a text has none', () => {
    expect(() => milliseconds('30')).toThrow(/needs a unit/);
    expect(() => bytes('300')).toThrow(/needs a unit/);
  });

  it.each(['', 's', '-1s', '1y', '1s2', 'NaN', '1e3s', '25d', '١s'])('refuses the time %j', (written) => {
    expect(() => milliseconds(written)).toThrow(/^(must|needs)/);
  });

  it('every time and size that is printed is read back as it was', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 24 * 86_400_000 }), (ms) => {
        expect(milliseconds(formatDuration(ms))).toBe(ms);
      }),
    );
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 46 }), (count) => {
        expect(bytes(formatSize(count))).toBe(count);
      }),
    );
  });
});

describe('addresses', () => {
  it.each<[string, ListenTarget]>([
    ['tcp://127.0.0.1:3000', { kind: 'tcp', host: '127.0.0.1', port: 3000 }],
    ['tcp://[::1]:0', { kind: 'tcp', host: '::1', port: 0 }],
    ['tcp://[fe80::1%lo]:80', { kind: 'tcp', host: 'fe80::1%lo', port: 80 }],
    ['TCP://localhost:3000/', { kind: 'tcp', host: '127.0.0.1', port: 3000 }],
    ['0.0.0.0:8080', { kind: 'tcp', host: '0.0.0.0', port: 8080 }],
    ['unix:///run/app.sock', { kind: 'unix', path: '/run/app.sock' }],
    ['unix://app.sock', { kind: 'unix', path: join(folder, 'app.sock') }],
    ['fd://3', { kind: 'fd', fd: 3 }],
  ])('%s', (written, target) => expect(parseListen(written, folder)).toEqual(target));

  it.each([
    ['', /must be an address/],
    ['3000', /must be an address/],
    ['http://127.0.0.1:3000', /must begin with tcp/],
    ['tcp://example.com:80', /IP address or localhost/],
    ['tcp://127.0.0.1:65536', /port of 0 to 65535/],
    ['tcp://127.0.0.1', /must be an address/],
    ['tcp://::1:3000', /in brackets/],
    ['tcp://::1', /in brackets/],
    ['tcp://[127.0.0.1]:80', /IPv6 address in its brackets/],
    ['tcp://:80', /IP address or localhost/],
    ['fd://2', /3 or more/],
    ['fd://x', /3 or more/],
    ['unix://', /must have a path/],
    [`unix:///${'x'.repeat(200)}`, /at most 10\d bytes/],
    ['unix:///a\0b', /zero bytes/],
  ])('refuses %j', (written, words) => expect(() => parseListen(written, folder)).toThrow(words));

  it('every address that is printed is read back as it was, and no text does more than throw a line', () => {
    const target = fc.oneof(
      fc.record({
        kind: fc.constant('tcp' as const),
        host: fc.oneof(fc.ipV4(), fc.ipV6()),
        port: fc.integer({ min: 0, max: 65_535 }),
      }),
      fc.record({ kind: fc.constant('unix' as const), path: fc.stringMatching(/^\/[\w.-]{1,40}\w$/) }),
      fc.record({ kind: fc.constant('fd' as const), fd: fc.integer({ min: 3, max: 9_999_999 }) }),
    );
    fc.assert(
      fc.property(target, (it) => {
        expect(parseListen(formatListen(it), '/')).toEqual(it);
      }),
    );
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.webUrl()), (text) => {
        try {
          expect(['tcp', 'unix', 'fd']).toContain(parseListen(text, '/').kind);
        } catch (error) {
          expect((error as Error).message).toMatch(/^must /);
        }
      }),
    );
  });
});

describe('users and groups', () => {
  const files = { passwd: join(folder, 'passwd'), group: join(folder, 'group') };
  writeFileSync(files.passwd, 'root:x:0:0::/root:/bin/sh\nwww:x:33:34::/:/bin/false\n# odd\nbroken\n');
  writeFileSync(files.group, 'root:x:0:\nweb:x:34:\nlogs:x:90:www,other\n');
  const find = (user?: string | number, group?: string | number) => identity(user, group, spell, files);

  it('a user brings its group and the groups that it is in', () => {
    expect(find('www')).toEqual({ uid: 33, gid: 34, groups: [34, 90] });
    expect(find(33)).toEqual({ uid: 33, gid: 34, groups: [34, 90] });
    expect(find('33', 'logs')).toEqual({ uid: 33, gid: 90, groups: [90] });
    expect(find(undefined, 'web')).toEqual({ uid: null, gid: 34, groups: null });
    expect(find()).toEqual({ uid: null, gid: null, groups: null });
  });

  it('a number without an entry needs a group beside it', () => {
    expect(find(4711, 34)).toEqual({ uid: 4711, gid: 34, groups: [34] });
    expect(refusal(() => find(4711)).message).toMatch(/^--user: 4711 has no entry.*--group/);
  });

  it('a user has a name, a home and a shell, as far as its entry has', () => {
    expect(loginOf('root', files.passwd)).toEqual({
      USER: 'root',
      LOGNAME: 'root',
      HOME: '/root',
      SHELL: '/bin/sh',
    });
    expect(loginOf(33, files.passwd)).toEqual({ USER: 'www', LOGNAME: 'www', HOME: '/' });
    expect(loginOf(4711, files.passwd)).toEqual({});
  });

  it('suggests the nearest name', () => {
    expect(refusal(() => find('wwww')).message).toBe("--user: there is no user 'wwww'; did you mean 'www'?");
    expect(refusal(() => find('www', 'wep')).message).toContain(
      "there is no group 'wep'; did you mean 'web'?",
    );
  });
});

it.skipIf(process.getuid?.() === 0)('only root becomes somebody else: exit code 43', () => {
  expect(refusal(() => becoming(0, 0, spell))).toMatchObject({ exitCode: 43 });
});
