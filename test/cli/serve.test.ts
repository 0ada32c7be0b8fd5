/** `forkbeard serve` as a command: options and where they come from, refusals, log, metrics, and the way out. */

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { OPTIONS } from '../../dist/prefork/options/schema.js';
import { folder, forkbeard, main, Serving, serve, slow } from './serving.ts';

const app = join(folder, 'app.mjs');
writeFileSync(
  app,
  'export default (req, res) => res.end((process.env.GREETING ?? "hello") + " from " + process.pid);',
);

const hasScript = spawnSync('script', ['--version']).error === undefined;
/** The server on a terminal of its own. */
function onTerminal(...options: string[]) {
  const words = [process.execPath, main, 'serve', app, '--listen', 'tcp://127.0.0.1:0', ...options];
  // A shell that waits would be ended by Ctrl-C itself; some wait, some do not.
  return spawn('script', ['-qec', `exec ${words.join(' ')}`, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, XDG_RUNTIME_DIR: folder, TERM: 'xterm' },
  });
}

let projects = 0;
/** A folder of its own with these files. */
function project(files: Record<string, string>): string {
  const cwd = join(folder, `project-${projects++}`);
  mkdirSync(cwd);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(cwd, name), text);
  return cwd;
}

describe('options', () => {
  it('--help has every one of them', async () => {
    const { code, stdout } = await forkbeard(['serve', '--help']);
    for (const option of OPTIONS) {
      // A program's alone, or the argument.
      if (option === 'env' || option === 'application') continue;
      expect(stdout).toContain(`--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`);
    }
    expect(stdout).toContain('USR2 upgrades');
    expect(code).toBe(0);
  });

  it.each([
    [['serve', app, '--wokers', '2'], /Did you mean --workers\?/],
    [['serve', app, '--workers', 'many'], /^forkbeard: --workers must be auto or a whole number/],
    [['serve', app, '--listen', 'nowhere'], /^forkbeard: --listen must be an address/],
    [['serve', app, '--max-memory', '12'], /^forkbeard: --max-memory needs a unit/],
    [['serve', app, '--boot-timeout', '0'], /^forkbeard: --boot-timeout must be longer than 0/],
    [
      ['serve', app, '--user', 'nobdy'],
      /^forkbeard: --user: there is no user 'nobdy'; did you mean 'nobody'\?/,
    ],
    [['serve', 'missing.mjs'], /^forkbeard: application: there is no module .*missing\.mjs$/],
    [['serve'], /^forkbeard: application is missing/],
    [['serve', app, '--config', 'none.json'], /^forkbeard: --config: there is no file/],
    [['serve', app, 'another'], /too many arguments/],
    [
      ['serve', app, '--log-file', '/proc/none/log'],
      /^forkbeard: The log file cannot be opened: ENOENT: .*log'$/,
    ],
    [['ctl', 'status', '--contorl', 'x'], /Did you mean --control\?/],
    [['ctl', 'relaod'], /Did you mean reload\?/],
    [['ctl', 'workers', 'many'], /^forkbeard: workers must be a number/],
    [['ctl', 'kill', '0'], /^forkbeard: slot must be a worker's number/],
  ])('%j is wrong usage: one line and exit code 2', async (args, words) => {
    const { code, stdout, stderr } = await forkbeard(args);
    expect(stderr.trimEnd()).toMatch(words);
    if (stderr.startsWith('forkbeard:')) expect(stderr.trimEnd()).not.toContain('\n');
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  it('come from a file as well, and the command line goes first', async () => {
    const cwd = project({
      'shop.mjs': 'export default () => {}',
      'forkbeard.config.json':
        '{ "application": "shop.mjs", "workers": 3, "maxRequests": 100, "logFormat": "json", "env": { "KEY": "secret" } }',
    });
    const { code, stdout, stderr } = await forkbeard(['serve', '--check', '--workers', '5'], { cwd });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({ title: 'shop', workers: 5, maxRequests: 100, env: ['KEY'] });
    expect(stdout).not.toContain('secret');
  });

  it('a file may be a module, and its paths begin where it is', async () => {
    const cwd = project({
      'shop.mjs': 'export default () => {}',
      'shop.env': 'A=1',
      'forkbeard.config.mjs':
        "export default async () => ({ application: './shop.mjs', envFile: 'shop.env', env: { B: '2' } });",
    });
    const { stdout } = await forkbeard(['serve', '--check', '--config', join(cwd, 'forkbeard.config.mjs')]);
    expect(stdout).toMatch(/^application +file:.*shop\.mjs$/m);
    expect(stdout).toContain(`${join(cwd, 'shop.env')}, B`);
  });

  it('a TypeScript file is read where Node can, and refused with the way out where not', async () => {
    const cwd = project({
      'shop.mjs': 'export default () => {}',
      'forkbeard.config.ts':
        "const title: string = 'typed'; export default { application: 'shop.mjs', title };",
    });
    const { code, stdout, stderr } = await forkbeard(['serve', '--check'], { cwd });
    if ((process.features as { typescript?: string }).typescript) {
      expect(stdout).toMatch(/^title +typed$/m);
    } else {
      expect(stderr).toMatch(/does not run TypeScript \(22\.18 and later do\).*forkbeard\.config\.mjs/);
      expect(code).toBe(2);
    }
  });

  it.each([
    ['{ "wokers": 2 }', /forkbeard\.config\.json:1: Unknown option "wokers"; did you mean "workers"\?/],
    ['{\n"workers": 0 }', /forkbeard\.config\.json:2: workers must be auto/],
    ['{ "workers": 2 ', /forkbeard\.config\.json:1: .*JSON/],
    ['[]', /must hold an object of options/],
  ])('a file with %s is refused under its own name', async (text, words) => {
    const cwd = project({ 'forkbeard.config.json': text });
    const { code, stderr } = await forkbeard(['serve', app, '--check'], { cwd });
    expect(stderr).toMatch(words);
    expect(stderr.trimEnd()).not.toContain('\n');
    expect(code).toBe(2);
  });

  it('two files are one too many', async () => {
    const cwd = project({ 'forkbeard.config.json': '{}', 'forkbeard.config.mjs': 'export default {}' });
    const { code, stderr } = await forkbeard(['serve', app, '--check'], { cwd });
    expect(stderr).toContain('say which with --config');
    expect(code).toBe(2);
  });
});

describe('a server', { timeout: 60_000 * slow }, () => {
  it('logs JSON where nobody watches: time, level, event, and the fields of the event', async () => {
    const server = serve(app);
    const url = await server.url();
    expect(await (await fetch(url)).text()).toMatch(/^hello from \d+$/);
    expect(await server.event('worker-ready', 2)).toMatchObject({
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      worker: expect.any(Number),
      pid: expect.any(Number),
      generation: 1,
    });
    expect(await server.stop()).toBe(0);
    expect(server.lines.at(-1)).toMatchObject({ event: 'stopped', code: 0 });
    expect(server.other + server.stderr).toBe('');
  });

  it('prints its board once for people who do not watch', async () => {
    const server = serve(app, ['--log-format', 'pretty']);
    const shown = await new Promise<string>((resolve) => {
      const look = () => {
        if (/rss\n( +\d+ .*\n){2}/.test(server.other)) resolve(server.other);
      };
      server.child.stdout?.on('data', () => setImmediate(look));
    });
    expect(shown).toMatch(/^forkbeard http:\/\/127\.0\.0\.1:\d+$/m);
    expect(shown).toMatch(/^ready · 2 of 2 ready · generation 1/m);
    expect(shown).not.toContain('\u001b');
    expect(await server.stop()).toBe(0);
  });

  it.skipIf(!hasScript)('shows a live board on a terminal, and ends with Ctrl-C (needs script)', async () => {
    const terminal = onTerminal('--workers', '2');
    let shown = '';
    const exited = once(terminal, 'close');
    await new Promise<void>((resolve) => {
      terminal.stdout.setEncoding('utf8').on('data', (text) => {
        shown += text;
        // Drawn, wiped, and drawn again with both workers ready.
        if (/2 of 2 ready/.test(shown) && shown.split('\u001b[J').length > 2) resolve();
      });
    });
    expect(shown).toMatch(/worker +pid +gen +state/);
    expect(shown).toContain('listening at http://127.0.0.1:');
    terminal.stdin.write('\u0003');
    expect((await exited)[0]).toBe(0);
    expect(shown).toContain('stopped with exit code 0');
  });

  it.skipIf(!hasScript)('outlives its terminal (needs script)', async () => {
    const control = join(folder, 'terminal.ctl');
    const log = join(folder, 'terminal.log');
    const terminal = onTerminal(
      '--control',
      control,
      '--workers',
      '2',
      '--log-file',
      log,
      '--log-format',
      'pretty',
    );
    await new Promise<void>((resolve) => {
      terminal.stdout.setEncoding('utf8').on('data', (text) => {
        if (/2 of 2 ready/.test(text)) resolve();
      });
    });
    // With it goes the terminal: the server is told HUP, and its next lines have nowhere to go.
    terminal.kill('SIGKILL');
    await once(terminal, 'close');
    const ctl = (...args: string[]) => forkbeard(['ctl', ...args, '--control', control]);
    expect(await ctl('workers', '+1')).toMatchObject({ code: 0 });
    expect(await ctl('reload')).toMatchObject({ code: 0 });
    expect(await ctl('stop')).toMatchObject({ code: 0 });
    const said = readFileSync(log, 'utf8');
    expect(said).toContain('stopped with exit code 0');
    expect(said.match(/ended: (?!drained|exit code 0).*/g)).toBe(null);
  });

  it.skipIf(process.getuid?.() !== 0)(
    'lets its application become somebody else, and itself stay who it is (needs root)',
    async () => {
      const home = mkdtempSync(join(tmpdir(), 'forkbeard-user-'));
      chmodSync(home, 0o755);
      const open = join(home, 'who.mjs');
      writeFileSync(
        open,
        'export default (req, res) => res.end([process.getuid(), process.getgid(), process.umask()].join());',
      );
      const server = serve(open, [
        '--user',
        'nobody',
        '--group',
        'nogroup',
        '--umask',
        '027',
        '--chdir',
        home,
      ]);
      expect(await (await fetch(await server.url())).text()).toBe(`65534,65534,${0o027}`);
      expect(statSync(`/proc/${server.child.pid}`).uid).toBe(0);
      expect(await server.stop()).toBe(0);
      rmSync(home, { recursive: true });
    },
  );

  it('writes its log to a file, and to a new one once it is told with USR1', async () => {
    const log = join(folder, 'server.log');
    const server = serve(app, [
      '--log-file',
      log,
      '--metrics',
      'tcp://127.0.0.1:0',
      '--pid-file',
      join(folder, 'pid'),
    ]);
    const events = (file: string) => {
      try {
        return readFileSync(file, 'utf8')
          .trimEnd()
          .split('\n')
          .map((line) => JSON.parse(line).event);
      } catch {
        return [];
      }
    };
    await expect.poll(() => events(log), { timeout: 15_000 * slow }).toContain('ready');
    expect(Number(readFileSync(join(folder, 'pid'), 'utf8'))).toBe(server.child.pid);
    renameSync(log, `${log}.1`);
    server.child.kill('SIGUSR1');
    await expect.poll(() => events(log), { timeout: 15_000 * slow }).toContain('logs-reopened');
    expect(await server.stop()).toBe(0);
    expect(events(log).at(-1)).toBe('stopped');
    expect(events(`${log}.1`)).not.toContain('stopped');
  });

  it('outlives the reader of its log', async () => {
    const server = serve(app);
    const url = await server.url();
    server.child.stdout?.destroy();
    await forkbeard(['ctl', 'workers', '+1']);
    expect((await fetch(url)).status).toBe(200);
    expect(await server.stop()).toBe(0);
  });

  it('goes on while nobody reads its log, and says afterwards what of it is lost', async () => {
    const shop = join(folder, 'stalled.mjs');
    const works = 'export default (req, res) => res.end(String(process.pid));';
    writeFileSync(shop, works);
    const server = serve(shop, ['--control', join(folder, 'stalled.ctl'), '--log-format', 'json']);
    const url = await server.url();
    const log = server.child.stdout as Readable;
    log.pause();
    const ctl = (...words: string[]) =>
      forkbeard(['ctl', ...words, '--control', join(folder, 'stalled.ctl')]);
    // Each failure is some lines of many words, and they are more than any buffer holds.
    writeFileSync(shop, 'throw new Error("w".repeat(60_000));');
    for (let turn = 0; turn < 12; turn++) expect((await ctl('reload')).code).toBe(1);
    expect(await (await fetch(url)).text()).toMatch(/^\d+$/);
    writeFileSync(shop, works);
    expect((await ctl('reload')).code).toBe(0);
    log.resume();
    const lost = await server.event('warning');
    expect(lost).toMatchObject({ level: 'warn', code: 'LOG_LINES_LOST' });
    expect(lost['lines']).toBeGreaterThan(0);
    expect(await server.stop()).toBe(0);
    expect(server.other).toBe('');
    expect(server.lines.at(-1)).toMatchObject({ event: 'stopped', code: 0 });
  });

  it('gives the application what its options say', async () => {
    writeFileSync(join(folder, 'greeting.env'), 'GREETING=ahoy\nNODE_OPTIONS=--max-old-space-size=333\n');
    const flags = ['--env-file', 'greeting.env', '--rlimits', 'nofile=300', '--rlimits', 'core=0'];
    const told = join(folder, 'told.mjs');
    writeFileSync(
      told,
      `import { getHeapStatistics } from 'node:v8';
       const heap = getHeapStatistics().heap_size_limit / 2 ** 20;
       const { pid, env: { GREETING: greeting } } = process;
       export default (req, res) => res.end(JSON.stringify({ pid, greeting, heap }));`,
    );
    const server = serve(told, flags);
    const { pid, greeting, heap } = JSON.parse(await (await fetch(await server.url())).text());
    expect(greeting).toBe('ahoy');
    // Of which the young generation is some.
    expect(heap).toBeGreaterThan(300);
    expect(heap).toBeLessThan(600);
    const limits = readFileSync(`/proc/${pid}/limits`, 'latin1');
    expect(limits).toMatch(/^Max open files +300 +300 /m);
    expect(limits).toMatch(/^Max core file size +0 +0 /m);
    expect(await server.stop()).toBe(0);
  });

  it('says that it is alive and ready, and counts, over HTTP', async () => {
    const probe = createServer().listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const { port } = probe.address() as { port: number };
    probe.close();
    await once(probe, 'close');
    const server = serve(app, ['--metrics', `tcp://127.0.0.1:${port}`]);
    const url = await server.url();
    for (let i = 0; i < 5; i++) await (await fetch(url)).text();
    const at = (path: string) => fetch(`http://127.0.0.1:${port}${path}`);
    expect((await at('/livez')).status).toBe(200);
    expect((await at('/readyz')).status).toBe(200);
    const text = await (await at('/metrics')).text();
    expect(text).toMatch(/^forkbeard_requests_total 5$/m);
    expect(text).toMatch(/^forkbeard_workers\{state="ready"\} 2$/m);
    expect(text).toMatch(/^forkbeard_worker_memory_bytes\{worker="1",kind="uss"\} \d{6,}$/m);
    // Somebody else cannot have it: nothing is started then.
    const other = serve(app, ['--metrics', `tcp://127.0.0.1:${port}`]);
    expect(await other.exited).toBe(42);
    expect(other.stderr).toMatch(/^forkbeard: EADDRINUSE: .*tcp:\/\/127\.0\.0\.1:\d+ \(metrics\)\n$/);
    expect(other.lines).toEqual([]);
    expect(await server.stop()).toBe(0);
  });

  it('ends with 41 when its application throws, and with nothing left', async () => {
    const broken = join(folder, 'broken.mjs');
    writeFileSync(broken, "throw new Error('no database');");
    const server = serve(broken);
    expect(await server.exited).toBe(41);
    expect(JSON.stringify(server.lines)).toContain('no database');
    expect(server.lines.at(-1)).toMatchObject({ event: 'stopped', code: 41 });
  });

  it.each([
    [
      'throws.mjs',
      "const x = 1;\nthrow new Error('no database');",
      /^Error: no database\n +at .*throws\.mjs:2:7$/,
    ],
    [
      'typo.mjs',
      'const x = 1;\nexport default (=> {};',
      /typo\.mjs:2\n.*\n +\^+\n+SyntaxError: Unexpected token/,
    ],
    [
      'typo.cjs',
      'const x = 1;\nmodule.exports = (=> {};',
      /typo\.cjs:2\n.*\n +\^+\n+SyntaxError: Unexpected token/,
    ],
  ])('says where %s went wrong, and shows nothing but the application', async (name, text, place) => {
    const broken = join(folder, name);
    writeFileSync(broken, text);
    const server = serve(broken);
    expect(await server.exited).toBe(41);
    const end = await server.event('mold-exit');
    expect(end).toMatchObject({ level: 'error', cause: 'boot', exitCode: 41 });
    expect(end['stack']).toMatch(place);
    expect(end['stack']).not.toMatch(/at .*(node:|dist\/prefork)/);
  });

  it('names the application when a syntax error is in a module below it', async () => {
    writeFileSync(join(folder, 'below.mjs'), 'export default (=> {};');
    const above = join(folder, 'above.mjs');
    writeFileSync(above, "import listener from './below.mjs';\nexport default listener;");
    const server = serve(above);
    expect(await server.exited).toBe(41);
    expect((await server.event('mold-exit'))['message']).toContain(
      `(in ${above}, or in a module that it loads)`,
    );
  });

  it.each([
    ['that the kernel does not make', '/proc/none', /\/proc\/none: ENOENT: /],
    ['that cannot be looked into', 'loop', /loop\/control\.sock: ELOOP: /],
  ])('refuses a control socket in a folder %s', async (_, name, why) => {
    const place = resolve(folder, name);
    if (name === 'loop') symlinkSync('loop', place);
    const { code, stderr } = await forkbeard(['serve', app, '--control', join(place, 'control.sock')]);
    expect(stderr).toMatch(/^forkbeard: The control socket cannot be at [^\n]*\n$/);
    expect(stderr).toMatch(why);
    expect(code).toBe(42);
  });

  it('ends with 44 and one line when it cannot even open its own modules', async () => {
    const command = `ulimit -n 24; exec "$0" "$@"`;
    const { status, stderr } = spawnSync('sh', ['-c', command, process.execPath, main, 'serve', app], {
      encoding: 'utf8',
      env: { ...process.env, XDG_RUNTIME_DIR: folder },
    });
    expect(stderr).toMatch(/^forkbeard: EMFILE: [^\n]*\n$/);
    expect(status).toBe(44);
  });

  it('names the descriptor that is none', async () => {
    const server = new Serving([app, '--listen', 'fd://99']);
    expect(await server.exited).toBe(51);
    expect(await server.event('stopping')).toMatchObject({
      level: 'error',
      cause: expect.stringMatching(/^EBADF: .*\(fd:\/\/99\)$/),
    });
  });

  it('ends with 42 when its address is taken', async () => {
    const squatter = createServer().listen(0, '127.0.0.1');
    await once(squatter, 'listening');
    const { port } = squatter.address() as { port: number };
    const server = new Serving([app, '--listen', `tcp://127.0.0.1:${port}`]);
    await server.event('warning');
    expect(await server.exited).toBe(42);
    squatter.close();
  });

  it('reads a configuration with the application in it', async () => {
    const cwd = project({
      'app.mjs': 'export default (req, res) => res.end("from the file")',
      'forkbeard.config.mjs':
        "export default { application: 'app.mjs', workers: 1, listen: ['tcp://127.0.0.1:0', 'unix://app.sock'] };",
    });
    const server = new Serving([], { cwd });
    expect(await (await fetch(await server.url())).text()).toBe('from the file');
    expect((await server.event('listening'))['listen']).toEqual([
      expect.stringMatching(/^tcp:/),
      `unix://${join(cwd, 'app.sock')}`,
    ]);
    expect(await server.stop()).toBe(0);
  });
});
