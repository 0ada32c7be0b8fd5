/** Options: what is taken, what is refused and in which words, and how they become a plan. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { identity } from '../../dist/prefork/options/accounts.js';
import { formatListen, parseListen } from '../../dist/prefork/options/listen.js';
import { planOf } from '../../dist/prefork/options/plan-of.js';
import { availableProcessors, quota } from '../../dist/prefork/options/processors.js';
import { checkOptions, OPTIONS, PROGRAM } from '../../dist/prefork/options/schema.js';
import { showPlan } from '../../dist/prefork/options/show.js';
import { bytes, formatDuration, formatSize, milliseconds } from '../../dist/prefork/options/units.js';
import type { ListenTarget } from '../../dist/prefork/plan.js';

const folder = mkdtempSync(join(tmpdir(), 'forkbeard-options-'));
const application = join(folder, 'app.mjs');
writeFileSync(application, 'export default () => {};');
afterAll(() => rmSync(folder, { recursive: true }));

const spell = (option: string) => `--${option}`;

function refusal(act: () => unknown): { code: string; message: string; exitCode: number } {
  try {
    act();
  } catch (error) {
    return error as { code: string; message: string; exitCode: number };
  }
  throw new Error('It was taken');
}

const check = (options: unknown) => checkOptions(options, { spell, base: folder });
const plan = (options: object) => planOf(check({ application, ...options }), spell);

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

  it('suggests the nearest name', () => {
    expect(refusal(() => find('wwww')).message).toBe("--user: there is no user 'wwww'; did you mean 'www'?");
    expect(refusal(() => find('www', 'wep')).message).toContain(
      "there is no group 'wep'; did you mean 'web'?",
    );
  });

  it.skipIf(process.getuid?.() === 0)('only root becomes somebody else: exit code 43', () => {
    expect(refusal(() => plan({ user: 0, group: 0 }))).toMatchObject({ exitCode: 43 });
  });
});

describe('processors', () => {
  let machines = 0;
  function machine(files: Record<string, string>): string {
    const root = join(folder, `machine-${machines++}`);
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(root, path, '..'), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    return root;
  }

  it('the least quota of a group and of those around it counts, in whole processors', () => {
    const root = machine({
      'proc/self/cgroup': '0::/a/b\n',
      'sys/fs/cgroup/a/cpu.max': '250000 100000\n',
      'sys/fs/cgroup/a/b/cpu.max': 'max 100000\n',
    });
    expect(quota(root)).toBe(2.5);
    expect(availableProcessors(root, 8)).toBe(2);
    expect(availableProcessors(root, 1)).toBe(1);
  });

  it("a container's own group is the root, and a part of a processor is one worker", () => {
    const root = machine({ 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/cpu.max': '50000 100000\n' });
    expect(availableProcessors(root, 8)).toBe(1);
  });

  it('the older kind of groups counts as well', () => {
    const root = machine({
      'proc/self/cgroup': '5:memory:/x\n4:cpu,cpuacct:/docker/1\n',
      'sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us': '300000\n',
      'sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us': '100000\n',
      'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '-1\n',
      'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': '100000\n',
    });
    expect(availableProcessors(root, 8)).toBe(3);
  });

  it('without groups, the processors are those of the machine', () => {
    expect(availableProcessors(machine({}), 6)).toBe(6);
  });
});

describe('what is wrong is said in one line, under the name that its user wrote', () => {
  it.each<[object, RegExp]>([
    [{ workers: 'many' }, /^--workers must be auto or a whole number of 1 to 1024, not 'many'$/],
    [{ workers: 0 }, /^--workers must be auto or/],
    [{ workers: 1.5 }, /^--workers must be auto or/],
    [{ listen: ['tcp://127.0.0.1:1', 'nowhere'] }, /^--listen must be an address such as/],
    [{ spawnMethod: 'frok' }, /^--spawnMethod must be one of auto, fork, spawn$/],
    [{ bootTimeout: '0' }, /^--bootTimeout must be longer than 0$/],
    [{ gracefulTimeout: 'soon' }, /^--gracefulTimeout must be a time/],
    [{ maxMemory: '3' }, /^--maxMemory needs a unit/],
    [{ maxMemory: '3b' }, /^--maxMemory must be 1mb or more/],
    [{ jitter: 101 }, /^--jitter must be a whole number of 0 to 100/],
    [{ umask: '9' }, /^--umask must be octal/],
    [{ reforkAfter: '50,x' }, /^--reforkAfter must be a whole number/],
    [{ metrics: 'fd://4' }, /^--metrics must begin with tcp/],
    [{ control: '/'.padEnd(200, 'x') }, /^--control must have a path of at most/],
    [{ control: true }, /^--control must be the path of a socket, or false/],
    [{ env: { 'A=B': 'c' } }, /^--env/],
    [{ env: { A: 1 } }, /^--env\.A must be a text$/],
    [{ user: -1 }, /^--user must be a name or a number$/],
    [{ reusePort: 'yes' }, /^--reusePort must be true or false$/],
    [{ title: '' }, /^--title must not be empty$/],
    [{ application: 'file://elsewhere/app.js' }, /^--application must be a path or a file: URL/],
  ])('%j', (options, words) => {
    const { code, message, exitCode } = refusal(() => check(options));
    expect(message).toMatch(words);
    expect(message).not.toContain('\n');
    expect({ code, exitCode }).toEqual({ code: 'ERR_FORKBEARD_INVALID_OPTION', exitCode: 2 });
  });

  it('an unknown name brings the nearest known one', () => {
    expect(refusal(() => check({ wokers: 2 }))).toMatchObject({
      code: 'ERR_FORKBEARD_UNKNOWN_OPTION',
      message: 'Unknown option "wokers"; did you mean "workers"?',
      exitCode: 2,
    });
  });

  it.each([undefined, null, 7, 'app.js', []])('%j is no object of options', (options) => {
    expect(refusal(() => check(options)).message).toMatch(/must be an object/);
  });

  it('whatever is given, it is taken or refused in one line', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...OPTIONS), fc.anything()), (options) => {
        try {
          checkOptions(options, PROGRAM);
        } catch (error) {
          const { message, exitCode } = error as Error & { exitCode: number };
          expect(exitCode).toBe(2);
          expect(message).toMatch(/^\w[^\n]*$/);
        }
      }),
      { numRuns: 200 },
    );
  });

  it.each<[object, RegExp]>([
    [{ application: 'missing.js' }, /^--application: there is no module .*missing\.js$/],
    [{ application: undefined }, /^--application is missing/],
    [{ chdir: 'nowhere' }, /^--chdir: there is no folder/],
    [{ envFile: 'no.env' }, /^--envFile: cannot read/],
    [{ listen: ['tcp://127.0.0.1:1', 'tcp://localhost:1'] }, /^--listen names tcp:\/\/127.0.0.1:1 twice$/],
    [{ listen: 'fd://3', reusePort: true }, /^--reusePort is for TCP addresses/],
  ])('%j becomes no plan', (options, words) => {
    expect(refusal(() => plan(options))).toMatchObject({
      message: expect.stringMatching(words),
      exitCode: 2,
    });
  });
});

describe('a plan', () => {
  it('has every default', () => {
    const made = plan({});
    expect(made).toMatchObject({
      application: pathToFileURL(application).href,
      title: 'app',
      listen: [{ kind: 'tcp', host: '127.0.0.1', port: 3000 }],
      spawnMethod: 'auto',
      backlog: 2048,
      bootTimeout: 30_000,
      gracefulTimeout: 30_000,
      blockedTimeout: 30_000,
      requestTimeout: 0,
      jitter: 10,
      reforkAfter: [],
      metrics: null,
      uid: null,
      umask: null,
      cwd: process.cwd(),
      logFormat: 'json',
    });
    expect(made.workers).toBeGreaterThan(0);
    expect(made.control).toMatch(/forkbeard.*\d+\.sock$/);
    expect(JSON.parse(JSON.stringify(made))).toEqual(made);
  });

  it('has what was asked for, in its own units and absolute', () => {
    writeFileSync(join(folder, 'a.env'), 'A=1');
    expect(
      plan({
        workers: '4',
        listen: 'tcp://[::]:0',
        maxMemory: '300mb',
        maxLifetime: '1h',
        reforkAfter: '50,100, 1000',
        umask: '027',
        chdir: '.',
        envFile: 'a.env',
        control: false,
        metrics: '127.0.0.1:9100',
        title: 'shop',
      }),
    ).toMatchObject({
      workers: 4,
      listen: [{ kind: 'tcp', host: '::', port: 0 }],
      maxMemory: 314_572_800,
      maxLifetime: 3_600_000,
      reforkAfter: [50, 100, 1000],
      umask: 0o027,
      cwd: folder,
      envFiles: [join(folder, 'a.env')],
      control: false,
      metrics: { kind: 'tcp', host: '127.0.0.1', port: 9100 },
      title: 'shop',
    });
  });

  it('finds a module as Node does: without its ending, and in a folder', () => {
    const inFolder = join(folder, 'shop');
    mkdirSync(inFolder);
    writeFileSync(join(inFolder, 'package.json'), '{"main": "start.js"}');
    writeFileSync(join(inFolder, 'start.js'), '');
    expect(plan({ application: 'app' }).application).toBe(pathToFileURL(application).href);
    expect(plan({ application: './shop' }).application).toBe(pathToFileURL(join(inFolder, 'start.js')).href);
    expect(plan({ application: pathToFileURL(application).href }).title).toBe('app');
  });

  it('is shown with everything in it that was asked for', () => {
    const shown = showPlan(
      plan({ workers: 3, maxMemory: '300mb', reforkAfter: [50], umask: '27', control: '/x.sock' }),
    );
    expect(shown).toMatch(/^workers +3$/m);
    expect(shown).toMatch(/^memory a worker +300mb$/m);
    expect(shown).toMatch(/^refork after +50 requests$/m);
    expect(shown).toMatch(/^umask +0027$/m);
    expect(shown).toMatch(/^control +\/x\.sock$/m);
  });
});
