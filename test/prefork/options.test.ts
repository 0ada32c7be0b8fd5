/** Options: what is taken, what is refused and in which words, and how they become a plan. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { planOf } from '../../dist/prefork/options/plan-of.js';
import { availableProcessors, quota } from '../../dist/prefork/options/processors.js';
import { checkOptions, OPTIONS, PROGRAM } from '../../dist/prefork/options/schema.js';
import { showPlan } from '../../dist/prefork/options/show.js';
import { refusal } from '../daemon/refusal.ts';

const folder = mkdtempSync(join(tmpdir(), 'forkbeard-options-'));
const application = join(folder, 'app.mjs');
writeFileSync(application, 'export default () => {};');
afterAll(() => rmSync(folder, { recursive: true }));

const spell = (option: string) => `--${option}`;

const check = (options: unknown) => checkOptions(options, { spell, base: folder });
const plan = (options: object) => planOf(check({ application, ...options }), spell);

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
    [{ spawnMethod: 'frok' }, /^--spawnMethod must be one of auto, fork, spawn; did you mean 'fork'\?$/],
    [{ bootTimeout: '0' }, /^--bootTimeout must be longer than 0$/],
    [{ gracefulTimeout: 'soon' }, /^--gracefulTimeout must be a time/],
    [{ maxMemory: '3' }, /^--maxMemory needs a unit/],
    [{ maxMemory: '3b' }, /^--maxMemory must be 1mb or more/],
    [{ jitter: 101 }, /^--jitter must be a whole number of 0 to 100/],
    [{ umask: '9' }, /^--umask must be octal/],
    [{ rlimits: { nofiles: 5 } }, /^--rlimits\.nofiles is no resource limit .*; did you mean "nofile"\?$/],
    [
      { rlimits: { nofile: 'many' } },
      /^--rlimits\.nofile must be a whole number of 0 or more, unlimited, or an object/,
    ],
    [{ rlimits: { nofile: { soft: 6, hard: 5 } } }, /^--rlimits\.nofile must not have a soft limit above/],
    [{ rlimits: { core: { hard: 5 } } }, /^--rlimits\.core/],
    [{ rlimits: ['nofile:5'] }, /^--rlimits must be as nofile=1024 or nofile=1024:4096 is, not 'nofile:5'$/],
    [{ rlimits: ['nofile=6:5'] }, /^--rlimits\.nofile must not have a soft limit above/],
    [{ rlimits: 'nofile=5' }, /^--rlimits must be limits by name$/],
    [{ reforkAfter: '50,x' }, /^--reforkAfter must be a whole number/],
    [{ metrics: 'fd://4' }, /^--metrics must begin with tcp/],
    [{ control: '/'.padEnd(200, 'x') }, /^--control must have a path of at most/],
    [{ control: true }, /^--control must be the path of a socket, or false/],
    [{ env: { 'A=B': 'c' } }, /^--env/],
    [{ env: { A: 1 } }, /^--env\.A must be a text, as "1" is with its quotes$/],
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
    [{ application: folder }, /^--application: .* is a folder without a module of its own$/],
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
      rlimits: {},
      cwd: process.cwd(),
      logFormat: 'json',
    });
    expect(made.workers).toBeGreaterThan(0);
    expect(made.control).toMatch(/forkbeard.*\d+\.ctl$/);
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
        rlimits: ['nofile=100', 'core=0:unlimited', 'fsize=4096:'],
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
      rlimits: {
        nofile: { soft: 100, hard: 100 },
        core: { soft: 0, hard: 'unlimited' },
        fsize: { soft: 4096 },
      },
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
      plan({
        workers: 3,
        maxMemory: '300mb',
        reforkAfter: [50],
        umask: '27',
        control: '/x.sock',
        rlimits: { nofile: 99, core: { soft: 0, hard: 'unlimited' }, fsize: { soft: 4096 } },
      }),
    );
    expect(shown).toMatch(/^workers +3$/m);
    expect(shown).toMatch(/^memory a worker +300mb$/m);
    expect(shown).toMatch(/^refork after +50 requests$/m);
    expect(shown).toMatch(/^umask +0027$/m);
    expect(shown).toMatch(/^resource limits +nofile=99, core=0:unlimited, fsize=4096:$/m);
    expect(shown).toMatch(/^control +\/x\.sock$/m);
  });
});
