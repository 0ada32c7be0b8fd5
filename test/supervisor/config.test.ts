/** A supervisor's configuration: what becomes of it, and in which words the rest is refused. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { readConfigFile } from '../../dist/daemon/config-file.js';
import { planOf } from '../../dist/supervisor/config/plan-of.js';
import type { GroupPlan, ServicePlan } from '../../dist/supervisor/plan.js';

const folder = mkdtempSync(join(tmpdir(), 'forkbeard-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

const me = userInfo().username;

function refusal(act: () => unknown): Error & { code: string; exitCode: number; option: string } {
  try {
    act();
  } catch (error) {
    return error as Error & { code: string; exitCode: number; option: string };
  }
  throw new Error('It was taken');
}

const service = (spec: object): ServicePlan =>
  planOf({ services: { web: { command: 'true', ...spec } } }).tree.members[0] as ServicePlan;

async function fromFile(name: string, text: string) {
  const path = join(folder, name);
  writeFileSync(path, text);
  const { options, base, where } = await readConfigFile(path);
  return planOf(options, { base, where });
}

const messageOf = async (name: string, text: string) =>
  (
    await fromFile(name, text).then(
      () => expect.unreachable(),
      (error: Error) => error,
    )
  ).message;

describe('a plan', () => {
  it('takes everything that a service can have', async () => {
    const text = `{
      "strategy": "one_for_one", "intensity": { "restarts": 5, "within": "10s" }, "mode": "coupled", "require": "group",
      "services": {
        "cache": {
          "command": ["redis-server", "--port", "6390"], "cwd": "/tmp", "env": {}, "user": "${me}",
          "restart": "permanent",                       // transient, temporary
          "backoff": { "min": "100ms", "max": "30s", "jitter": 0.2, "resetAfter": "30s" },
          "ready": { "tcp": 6390, "within": "5s" }, "live": { "tcp": 6390, "every": "5s", "failures": 3 },
          "gates": [{ "port": 6390 }, { "group": "empty" }, { "lock": "free" }], "gateTimeout": "10s", "onGateTimeout": "fail",
          "stop": [{ "signal": "TERM", "wait": "5s" }, { "signal": "KILL" }],
          "exitCodes": { "42": "retry", "43": "never" }, "dependsOn": []
        }
      }
    }`;
    const { tree, stateDir } = await fromFile('example.json', text);
    expect(stateDir).toBeNull();
    expect(tree).toMatchObject({
      name: '',
      strategy: 'one_for_one',
      intensity: { restarts: 5, within: 10_000 },
    });
    expect(tree.members).toHaveLength(1);
    expect(tree.members[0]).toMatchObject({
      kind: 'service',
      name: 'cache',
      command: ['redis-server', '--port', '6390'],
      settings: { cwd: '/tmp' },
      restart: {
        type: 'permanent',
        backoff: { min: 100, max: 30_000, jitter: 0.2, resetAfter: 30_000 },
        intensity: { restarts: 5, within: 10_000 },
        exitCodes: { 42: 'retry', 43: 'never' },
      },
      ready: { probe: { tcp: 6390 }, within: 5000, timeout: 1000, every: 10_000, failures: 3, successes: 1 },
      live: { probe: { tcp: 6390 }, every: 5000, timeout: 1000, failures: 3 },
      gates: [{ port: 6390 }, { group: 'empty' }, { lock: 'free' }],
      gateTimeout: 10_000,
      onGateTimeout: 'fail',
      stop: [
        { signal: 'TERM', wait: 5000 },
        { signal: 'KILL', wait: 10_000 },
      ],
      mode: 'coupled',
      require: 'group',
      dependsOn: [],
    });
  });

  it('has a default for everything but the command', () => {
    const { env, settings, ...plan } = service({});
    expect(plan).toEqual({
      kind: 'service',
      name: 'web',
      command: ['true'],
      stdio: { stdout: 'relay', stderr: 'relay' },
      output: { lines: 20_000, bytes: 8 * 2 ** 20 },
      group: 'new',
      restart: {
        type: 'permanent',
        backoff: { min: 100, max: 30_000, jitter: 0.2, resetAfter: 30_000 },
        intensity: { restarts: 5, within: 10_000 },
        exitCodes: {},
      },
      startup: null,
      ready: null,
      live: null,
      gates: [{ group: 'empty' }, { lock: 'free' }],
      gateTimeout: 10_000,
      onGateTimeout: 'fail',
      stop: [
        { signal: 'TERM', wait: 10_000 },
        { signal: 'KILL', wait: 10_000 },
      ],
      mode: 'coupled',
      lease: 60_000,
      require: null,
      dependsOn: [],
      listen: [],
    });
    expect(settings).toEqual({ cwd: process.cwd() });
    expect(env['PATH']).toBe(process.env['PATH']);
  });

  it.each<[object, object]>([
    [{ tcp: '[::1]:80' }, { probe: { tcp: 80, host: '::1' } }],
    [{ tcp: 'localhost:80' }, { probe: { tcp: 80, host: 'localhost' } }],
    [{ tcp: '80' }, { probe: { tcp: 80 } }],
    [{ unix: 'app.sock' }, { probe: { unix: 'app.sock' } }],
    [{ http: 'http://127.0.0.1:80/up' }, { probe: { http: 'http://127.0.0.1:80/up' } }],
    [
      { http: { url: '/up', unix: '/x', status: 204 } },
      { probe: { http: '/up', unix: '/x', status: [204] } },
    ],
    [{ exec: ['sh', '-c', 'true'] }, { probe: { exec: ['sh', '-c', 'true'] } }],
    [{ notify: true }, { notify: true }],
  ])('knows the question %j', (asked, question) => {
    expect(service({ live: asked }).live).toEqual({ ...question, every: 10_000, timeout: 1000, failures: 3 });
    expect(service({ startup: asked }).startup).toEqual({ ...question, within: 60_000, timeout: 1000 });
    expect(service({ ready: { ...asked, every: 0 } }).ready).toEqual({
      ...question,
      within: 30_000,
      timeout: 1000,
    });
  });

  it('has limits, accounts, output, addresses and gates as they are carried out', () => {
    expect(
      service({
        rlimits: { nofile: 100, core: { soft: 0, hard: 'unlimited' } },
        umask: '027',
        nice: 5,
        cwd: 'below',
        user: process.getuid?.(),
        stdout: { file: 'out.log' },
        stderr: 'inherit',
        session: true,
        listen: { http: 'tcp://127.0.0.1:3000', ctl: 'unix://x.sock' },
        gates: [{ unix: 'x' }, { path: 'y', within: '1s' }, { exec: 'true', onTimeout: 'proceed' }],
      }),
    ).toMatchObject({
      settings: {
        rlimits: { nofile: { soft: 100, hard: 100 }, core: { soft: 0, hard: Number.POSITIVE_INFINITY } },
        umask: 0o27,
        nice: 5,
        cwd: join(process.cwd(), 'below'),
      },
      stdio: {
        stdout: { open: join(process.cwd(), 'below/out.log'), flags: 'a' },
        stderr: 'inherit',
      },
      group: 'session',
      listen: [
        { name: 'http', target: { kind: 'tcp', host: '127.0.0.1', port: 3000 } },
        { name: 'ctl', target: { kind: 'unix', path: join(process.cwd(), 'x.sock') } },
      ],
      gates: [
        { unix: join(process.cwd(), 'below/x') },
        { path: join(process.cwd(), 'below/y'), is: 'absent', within: 1000 },
        { exec: ['true'], onTimeout: 'proceed' },
      ],
    });
  });

  it('gives a service the environment that it is to have', () => {
    process.env['FORKBEARD_TEST_ENV'] = 'ours';
    process.env['NOTIFY_SOCKET'] = '/run/ours';
    const { SHELL: ours } = process.env;
    try {
      expect(service({ env: { PORT: '80', ON: 'true' } }).env).toMatchObject({
        FORKBEARD_TEST_ENV: 'ours',
        PORT: '80',
        ON: 'true',
      });
      // What systemd says to us is none of its business.
      expect(service({}).env).not.toHaveProperty('NOTIFY_SOCKET');
      expect(service({ inheritEnv: false, env: { A: '1' } }).env).toEqual({ A: '1' });
      // Another account's home is not ours.
      const entry = readFileSync('/etc/passwd', 'utf8')
        .split('\n')
        .find((line) => line.startsWith(`${me}:`));
      const [, , , , , home = '', shell] = entry?.split(':') ?? [];
      const login = { HOME: home, USER: me, LOGNAME: me, SHELL: shell };
      expect(service({ user: me, inheritEnv: false }).env).toEqual(login);
      expect(service({ user: me, env: { HOME: '/mine' } }).env).toMatchObject({ ...login, HOME: '/mine' });
      process.env['SHELL'] = '/bin/of-ours';
      const unknown = service({ user: process.getuid?.() === 0 ? 4_000_000 : me, group: process.getgid?.() });
      expect(unknown.env['SHELL']).not.toBe('/bin/of-ours');
      expect(service({ inheritEnv: ['FORKBEARD_TEST_ENV'] }).env).toEqual({ FORKBEARD_TEST_ENV: 'ours' });
    } finally {
      delete process.env['FORKBEARD_TEST_ENV'];
      delete process.env['NOTIFY_SOCKET'];
      if (ours === undefined) delete process.env['SHELL'];
      else process.env['SHELL'] = ours;
    }
  });

  it('hands down what a group says, to groups within it as well', () => {
    const { tree } = planOf({
      mode: 'distributed',
      intensity: { restarts: 9 },
      services: {
        db: { command: 'db' },
        shop: {
          strategy: 'rest_for_one',
          require: 'tree',
          dependsOn: 'db',
          services: {
            a: { command: 'a' },
            b: { command: 'b', require: 'group', mode: 'independent', lease: 0 },
          },
        },
      },
    });
    const [db, shop] = tree.members as [ServicePlan, GroupPlan];
    const [a, b] = shop.members as [ServicePlan, ServicePlan];
    expect(db).toMatchObject({
      mode: 'distributed',
      require: null,
      restart: { intensity: { restarts: 9, within: 10_000 } },
    });
    expect(shop).toMatchObject({
      strategy: 'rest_for_one',
      dependsOn: [{ name: 'db', until: 'ready' }],
      restart: 'permanent',
    });
    expect(a).toMatchObject({ mode: 'distributed', require: 'tree' });
    expect(b).toMatchObject({ mode: 'independent', require: 'group', lease: 0 });
  });

  it('may come of YAML, and of a module with a predicate in it', async () => {
    const yaml = await fromFile(
      'web.yaml',
      'services:\n  web:\n    command: [node, app.js]\n    exitCodes: { 42: retry }\n    env: { PORT: "80" }\n',
    );
    expect(yaml.tree.members[0]).toMatchObject({
      command: ['node', 'app.js'],
      restart: { exitCodes: { 42: 'retry' } },
    });
    const module = await fromFile(
      'web.mjs',
      "export default { services: { web: { command: 'true', gates: [{ name: 'registry', check: () => true }] } } };",
    );
    expect((module.tree.members[0] as ServicePlan).gates).toEqual([
      { name: 'registry', check: expect.any(Function) },
    ]);
  });
});

describe('what is wrong is told in one line, with the path of it', () => {
  it.each<[object, string | RegExp]>([
    [{ command: [] }, 'services.web.command must have a program'],
    [{ command: 5 }, 'services.web.command must be a program, or a list of it and its arguments'],
    [
      { command: 'redis-server --port 1' },
      'services.web.command must be a list when there are arguments: ["redis-server","--port","1"]',
    ],
    [
      { restart: 'permanant' },
      "services.web.restart must be one of permanent, transient, temporary; did you mean 'permanent'?",
    ],
    [
      { stop: [{ signal: 'TRM' }] },
      "services.web.stop[0].signal must be a signal such as TERM, INT or 15, not 'TRM'; did you mean 'SIGTERM'?",
    ],
    [
      { restart: 'always' },
      "services.web.restart must be one of permanent, transient, temporary; did you mean 'permanent'?",
    ],
    [
      { restart: 'on-failure' },
      "services.web.restart must be one of permanent, transient, temporary; did you mean 'transient'?",
    ],
    [
      { command: ['redis-server', '--port', 6390] },
      'services.web.command[2] must be a text, as "6390" is with its quotes',
    ],
    [{ stop: [] }, 'services.web.stop must have a step'],
    [{ gateTimeout: '5' }, /^services\.web\.gateTimeout needs a unit/],
    [{ backoff: { min: '1m', max: '1s' } }, /^services\.web\.backoff must have a min/],
    [{ backoff: { jitter: 2 } }, 'services.web.backoff.jitter must be a number of 0 to 1'],
    [{ ready: { within: '1s' } }, 'services.web.ready must have one of tcp, unix, http, exec, notify, log'],
    [{ live: { every: '1s' } }, 'services.web.live must have one of tcp, unix, http, exec, notify'],
    [{ live: { log: 'up' } }, /^services\.web\.live: Unknown option "log"/],
    [{ ready: { log: 5 } }, 'services.web.ready.log must be a text, or in a module a pattern'],
    [
      { ready: { log: 'up' }, stdout: 'ignore', stderr: 'inherit' },
      'services.web.ready.log needs stdout or stderr to be log: else nobody reads it',
    ],
    [
      { ready: { tcp: 1, notify: true } },
      'services.web.ready must have one of tcp, unix, http, exec, notify, log, not tcp and notify',
    ],
    [
      { ready: { tcp: 70_000 } },
      "services.web.ready.tcp must be a port of 1 to 65535, or host:port, not '70000'",
    ],
    [{ live: { http: 'localhost/up' } }, /^services\.web\.live\.http must be a URL/],
    [{ ready: { tpc: 1 } }, 'services.web.ready: Unknown option "tpc"; did you mean "tcp"?'],
    [{ gates: [{}] }, 'services.web.gates[0] must have one of port, group, lock, unix, path, exec'],
    [{ gates: [{ port: 0 }] }, /^services\.web\.gates\[0\]\.port must be a whole number of 1 to 65535/],
    [{ gates: [{ group: 'full' }] }, 'services.web.gates[0].group must be empty'],
    [{ gates: [{ path: 'x', host: '::' }] }, 'services.web.gates[0] must have host with port only'],
    [{ gates: { port: 1 } }, 'services.web.gates must be a list of gates'],
    [{ exitCodes: { 256: 'retry' } }, /^services\.web\.exitCodes/],
    [{ exitCodes: { 1: 'again' } }, 'services.web.exitCodes.1 must be one of retry, never, done'],
    [
      { rlimits: { nofiles: 5 } },
      'services.web.rlimits.nofiles is no resource limit of this system; did you mean "nofile"?',
    ],
    [{ env: { A: {} } }, 'services.web.env.A must be a text'],
    [{ env: { A: 80 } }, 'services.web.env.A must be a text, as "80" is with its quotes'],
    [{ env: { A: true } }, 'services.web.env.A must be a text, as "true" is with its quotes'],
    [{ env: { A: 'x\0' } }, 'services.web.env.A must not contain zero bytes'],
    [{ env: { 'A=B': '' } }, /^services\.web\.env/],
    [{ env: { 'A\0': '' } }, /^services\.web\.env/],
    [{ user: 'rooot' }, "services.web.user cannot be: there is no user 'rooot'; did you mean 'root'?"],
    [{ listen: 'nowhere' }, /^services\.web\.listen must be an address such as/],
    [
      { listen: ['tcp://127.0.0.1:1', 'tcp://localhost:1'] },
      'services.web.listen has tcp://127.0.0.1:1, which it names twice',
    ],
    [{ lease: '1s' }, 'services.web.lease is for services of mode independent, and this one is coupled'],
    [{ dependsOn: 'wbe' }, "services.web.dependsOn[0] must be a service, and there is no 'wbe'"],
    [{ dependsOn: 'web' }, 'services.web.dependsOn goes round in a circle: web → web'],
    [{ comand: 'x' }, 'services.web: Unknown option "comand"; did you mean "command"?'],
    [{ zzz: 1 }, /^services\.web: Unknown option "zzz"; there are command, cwd, env,/],
  ])('%j', (spec, words) => {
    const error = refusal(() => service(spec));
    if (typeof words === 'string') expect(error.message).toBe(words);
    else expect(error.message).toMatch(words);
    expect(error.message).not.toContain('\n');
    expect(error.code).toMatch(/^ERR_FORKBEARD_(INVALID|UNKNOWN)_OPTION$/);
    expect(error.exitCode).toBe(2);
    expect(error.option).toMatch(/^services\.web/);
  });

  it.each<[unknown, string | RegExp]>([
    [undefined, 'must be an object'],
    [[], 'must be an object'],
    [{}, 'services must be services by name'],
    [{ services: [] }, 'services must be services by name'],
    [{ services: new Map() }, 'services must be services by name'],
    [{ services: { web: 'true' } }, 'services.web must be an object'],
    // A name in JSON; in a program what the object inherits from.
    [JSON.parse('{"services":{"__proto__":{}}}'), /^services\.__proto__ must have a name of up to 64/],
    [{ services: { __proto__: { command: 'x' } } }, /^services\.__proto__ must have a name of up to 64/],
    // Not that there is no command, which is the same mistake.
    [
      { services: { web: { comand: 'x' } } },
      'services.web: Unknown option "comand"; did you mean "command"?',
    ],
    [{ services: {}, strategie: 'x' }, 'Unknown option "strategie"; did you mean "strategy"?'],
    [
      { services: { '../x': { command: 'true' } } },
      /^services\.\.\.\/x must have a name of up to 64 letters/,
    ],
    [
      { services: {}, intensity: { restarts: -1 } },
      /^intensity\.restarts must be a whole number of 0 or more/,
    ],
    [
      {
        services: { a: { services: { web: { command: 'x' } } }, b: { services: { web: { command: 'x' } } } },
      },
      'services.b.services.web must have another name: there is a web already',
    ],
    [{ services: { web: { services: { web: { command: 'x' } } } } }, /there is a web already$/],
  ])('%j', (options, words) => {
    const { message, exitCode } = refusal(() => planOf(options));
    if (typeof words === 'string') expect(message).toBe(words);
    else expect(message).toMatch(words);
    expect(exitCode).toBe(2);
  });

  const graph = (services: Record<string, string[]>, extra: object = {}) => ({
    ...extra,
    services: Object.fromEntries(
      Object.entries(services).map(([name, dependsOn]) => [name, { command: 'true', dependsOn }]),
    ),
  });

  it.each<[object, string]>([
    [graph({ a: ['b'], b: ['a'] }), 'a → b → a'],
    [graph({ x: ['a'], a: ['b'], b: ['c'], c: ['a'] }), 'a → b → c → a'],
    [graph({ a: ['b'], b: [] }, { strategy: 'rest_for_one' }), 'a → b → a'],
    [
      {
        services: {
          group: { dependsOn: 'db', services: { web: { command: 'x' } } },
          db: { command: 'x', dependsOn: 'web' },
        },
      },
      'group → db → web → db',
    ],
  ])('a circle is shown (%#)', (options, circle) => {
    const { message } = refusal(() => planOf(options));
    expect(message).toContain(circle.slice(circle.indexOf(circle.split(' → ').at(-1) as string)));
    expect(message).toContain('goes round in a circle');
  });

  it('what is waited for is there, and is nothing that one is part of', () => {
    expect(refusal(() => planOf(graph({ cache: [], web: ['cahce'] }))).message).toBe(
      "services.web.dependsOn[0] must be a service, and there is no 'cahce'; did you mean 'cache'?",
    );
    expect(
      refusal(() => planOf({ services: { g: { services: { web: { command: 'x', dependsOn: 'g' } } } } }))
        .message,
    ).toBe('services.g.services.web.dependsOn[0] must not be g, which it is a part of');
  });

  it('whatever is given, it is taken or refused in one line', () => {
    const keys = [
      'command',
      'ready',
      'gates',
      'stop',
      'env',
      'dependsOn',
      'listen',
      'rlimits',
      'services',
      'backoff',
    ];
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...keys), fc.anything()), (spec) => {
        try {
          planOf({ services: { web: { command: 'true', ...spec } } });
        } catch (error) {
          const { message, exitCode } = error as Error & { exitCode: number };
          expect(exitCode).toBe(2);
          expect(message).toMatch(/^services[^\n]*$/);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('a file', () => {
  it.each([
    [
      'json',
      '{\n  "services": {\n    "web": {\n      "comand": ["x"],\n      "command": ["x"]\n    }\n  }\n}',
      4,
      'services.web: Unknown option "comand"; did you mean "command"?',
    ],
    [
      'json',
      '{ "services": {\n  "web": { "command": ["x"],\n    "stop": [\n      { "signal": "TERM" },\n      { "signal": "KIL" } ] } } }',
      5,
      /services\.web\.stop\[1\]\.signal must be a signal/,
    ],
    [
      'yaml',
      'services:\n  web:\n    command: [x]\n    ready:\n      tcp: many\n',
      5,
      /services\.web\.ready\.tcp must be a port/,
    ],
    [
      'yml',
      'services:\n  a: { command: [x], dependsOn: [b] }\n  b:\n    command: [x]\n    dependsOn: [a]\n',
      2,
      'services.a.dependsOn goes round in a circle: a → b → a',
    ],
    ['yaml', 'services:\n  web:\n    command: [x]\n  web:\n    command: [y]\n', 4, 'Map keys must be unique'],
    ['yaml', 'services:\n  web: {}\n', 2, /services\.web\.command must be a program/],
    ['yaml', 'services:\n  __proto__: { command: x }\n', 2, /^services\.__proto__ must have a name of/],
    [
      'json',
      '{ "services": {\n  "g": { "services": {\n    "__proto__": { "command": "x" } } } } }',
      3,
      /^services\.g\.services\.__proto__ must have a name of/,
    ],
  ])('of .%s is named with the line', async (ending, text, line, words) => {
    const name = `wrong.${ending}`;
    const message = await messageOf(name, text);
    const prefix = `${join(folder, name)}:${line}: `;
    expect(message.slice(0, prefix.length)).toBe(prefix);
    if (typeof words === 'string') expect(message.slice(prefix.length)).toBe(words);
    else expect(message.slice(prefix.length)).toMatch(words);
  });

  it('that is a module is named without', async () => {
    const message = await messageOf('wrong.mjs', 'export default { services: { web: {} } };');
    expect(message).toBe(
      `${join(folder, 'wrong.mjs')}: services.web.command must be a program, or a list of it and its arguments`,
    );
  });

  it('says where the other one is when a name is there twice', async () => {
    const message = await messageOf(
      'twice.yaml',
      'services:\n  a:\n    services:\n      web: { command: x }\n  web: { command: x }\n',
    );
    const path = join(folder, 'twice.yaml');
    expect(message).toBe(
      `${path}:5: services.web must have another name: there is a web already (${path}:4)`,
    );
  });
});
