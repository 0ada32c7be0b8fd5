/**
 * Kills the processes of a server at random, with SIGKILL, while clients keep it busy: workers, molds, whoever is just
 * being born, and the monitor, after which a new one is started at once at the same address. Reloads come in between.
 *
 *   npm run soak:server -- [--seconds=60] [--workers=4] [--method=fork|spawn] [--seed=N]
 *
 * Fails when the pool is not back to size, when a monitor cannot be had again at once, when anybody outlives his monitor,
 * when descriptors pile up in it, when anything is written to stderr, and on every failed request that is not the fault of
 * a process that was killed. Prints what was done as one JSON line at the end. More load comes from wrk where there is one.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    workers: { type: 'string', default: '4' },
    method: { type: 'string', default: 'fork' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});
const seconds = Number(values.seconds);
const workers = Number(values.workers);

/** For what should take a moment: generous, as there may be much else to do on few cores. ms */
const PATIENCE = 30_000 * Number(process.env['FORKBEARD_TEST_SLOW'] ?? 1);
const CLIENTS = 6;
/** Of a monitor with a pool that is back to size, beyond what it had when that was first so. */
const SPARE_DESCRIPTORS = 2;

const folder = mkdtempSync(join(tmpdir(), 'forkbeard-soak-'));
const application = join(folder, 'app.mjs');
const control = join(folder, 'control');
const mark = `soak-${process.pid}`;
const port = await freePort();
writeFileSync(
  application,
  `export default (request, response) => {
    const answer = () => response.writeHead(200, { 'x-pid': process.pid }).end('hello');
    if (request.url === '/slow') setTimeout(answer, 50);
    else request.resume().on('end', answer);
  };`,
);

// ------------------------------------------------------------------------------------------ chance

let state = Number(values.seed) | 0;
/** The same kinds of blows for the same seed (mulberry32); whom they meet, and when, is the machine's. */
function chance() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}
const oneOf = (list) => list[Math.floor(chance() * list.length)];

// ------------------------------------------------------------------------------------------ the server

const wrk = spawnSync('wrk', ['-v']).error === undefined;

class Monitor {
  events = [];
  stderr = '';
  /** When it had its pool together first. */
  descriptors = undefined;
  #process;
  #load;

  constructor() {
    const flags = ['--workers', String(workers), '--listen', `tcp://127.0.0.1:${port}`, '--control', control];
    const more = ['--spawn-method', values.method, '--log-format', 'json', '--title', mark];
    const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
    this.#process = spawn(process.execPath, [main, 'serve', application, ...flags, ...more], {
      env: { ...process.env, FORKBEARD_SOAK: mark },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.startedAt = performance.now();
    this.ended = once(this.#process, 'exit');
    this.#process.stderr.on('data', (text) => (this.stderr += text));
    let rest = '';
    this.#process.stdout.on('data', (text) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      for (const line of lines) this.events.push(JSON.parse(line));
    });
  }

  get pid() {
    return this.#process.pid;
  }

  saw(event) {
    return this.events.some((one) => one.event === event);
  }

  kill(signal) {
    this.#process.kill(signal);
  }

  async ready() {
    await until('a monitor that is ready', () => {
      assert.equal(this.#process.exitCode, null, `the monitor ended: ${JSON.stringify(this.events)}`);
      return this.saw('ready');
    });
    if (wrk)
      this.#load = spawn('wrk', ['-t1', '-c16', '-d24h', '--timeout=60s', url('/')], { stdio: 'ignore' });
  }

  status() {
    return new Promise((resolve, reject) => {
      http
        .get({ socketPath: control, path: '/v1/status', agent: false }, async (response) => {
          let text = '';
          for await (const chunk of response) text += chunk;
          resolve(JSON.parse(text));
        })
        .on('error', reject);
    });
  }

  async isWhole() {
    const { ready, workers: all, state: how } = await this.status();
    return how === 'ready' && ready === workers && all.length === workers;
  }

  /** Those that it has begun, at this moment, and what they call themselves. */
  get family() {
    return childrenOf(this.pid)
      .map((pid) => ({ pid, role: /forkbeard: (worker|mold)/.exec(titleOf(pid))?.[1] ?? 'newborn' }))
      .filter(({ pid }) => lives(pid));
  }

  stopLoad() {
    this.#load?.kill('SIGKILL');
  }
}

// ------------------------------------------------------------------------------------------ clients

/** Who was killed, and when; the monitor's death lasts until the next one is ready. */
const killed = new Map();
const downs = [];
const failures = [];
const answered = { all: 0, excused: 0 };
let over = false;

const isOurFault = (begun, failed, pid) =>
  downs.some(({ from, to }) => failed >= from && begun <= to) ||
  (pid === undefined ? [...killed.values()].some((at) => at >= begun && at <= failed) : killed.has(pid));

async function client() {
  while (!over) {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    let pid;
    const requests = 1 + Math.floor(Math.random() * 20);
    for (let i = 0; i < requests && !over; i++) {
      const begun = performance.now();
      try {
        const now = await one(agent, oneOf(['/', '/', '/slow']));
        // A worker that leaves closes connections that are idle; then it is another one.
        if (now.reused) assert.equal(now.pid, pid, 'one connection, two workers');
        pid = now.pid;
        answered.all++;
      } catch (error) {
        const failed = performance.now();
        if (!error.reused) pid = undefined;
        const { message, code, reused } = error;
        if (isOurFault(begun, failed, pid)) answered.excused++;
        else failures.push({ message, code, reused, pid, request: i, begun, failed, events: eventsOf(pid) });
        // Nobody is there: the next one need not come at once.
        await delay(10);
        break;
      }
    }
    agent.destroy();
  }
}

/** What became of a worker of the monitor that is there. */
function eventsOf(pid) {
  return monitor.events
    .filter((event) => event.pid === pid)
    .map(({ event, time, cause }) => [event, time, cause]);
}

function one(agent, path) {
  return new Promise((resolve, reject) => {
    const body = path === '/' ? 'x'.repeat(2000) : undefined;
    const method = body === undefined ? 'GET' : 'POST';
    const request = http.request({ host: '127.0.0.1', port, path, agent, method, timeout: PATIENCE });
    request.on('timeout', () => request.destroy(new Error('no answer')));
    const failed = (error) => reject(Object.assign(error, { reused: request.reusedSocket }));
    request.on('error', failed);
    request.on('response', (response) => {
      response.resume().on('error', failed);
      response.on('end', () => {
        if (response.statusCode !== 200) failed(new Error(`status ${response.statusCode}`));
        else resolve({ pid: Number(response.headers['x-pid']), reused: request.reusedSocket });
      });
    });
    request.end(body);
  });
}

// ------------------------------------------------------------------------------------------ blows

const blows = { worker: 0, mold: 0, newborn: 0, monitor: 0, reload: 0 };
/** Until the pool was back; until the next monitor was ready; until the last orphan was gone. ms */
const took = { pool: [], monitor: [], orphans: [] };

/** Each kind once, however short it is; then as it comes. */
const planned = ['worker', 'mold', 'reload', 'monitor', 'newborn'];
const usual = [
  'worker',
  'worker',
  'worker',
  'worker',
  'mold',
  'mold',
  'newborn',
  'newborn',
  'reload',
  'monitor',
];

async function strike(monitor) {
  const kind = planned.shift() ?? oneOf(usual);
  if (kind === 'monitor') return succeed(monitor);
  if (kind === 'reload') {
    blows.reload++;
    monitor.kill('SIGHUP');
    await delay(chance() * 400);
    return monitor;
  }
  const { family } = monitor;
  const victim = oneOf(family.filter(({ role }) => role === kind)) ?? oneOf(family);
  if (victim === undefined) return monitor;
  blows[victim.role]++;
  killed.set(victim.pid, performance.now());
  signal(victim.pid);
  // Every other time the next blow comes before this one has been got over.
  if (chance() < 0.5) await delay(chance() * 100);
  else await back(monitor);
  return monitor;
}

async function back(monitor) {
  const from = performance.now();
  await until('a pool that is back to size', () => monitor.isWhole());
  took.pool.push(performance.now() - from);
  // Molds come and go, and each has a channel.
  const count = () => readdirSync(`/proc/${monitor.pid}/fd`).length;
  monitor.descriptors ??= count();
  await until('descriptors that are given back', () => count() <= monitor.descriptors + SPARE_DESCRIPTORS);
}

/** The monitor is killed, and another one takes its place. */
async function succeed(monitor) {
  blows.monitor++;
  const left = [monitor.pid, ...monitor.family.map(({ pid }) => pid)];
  const down = { from: performance.now(), to: Number.POSITIVE_INFINITY };
  downs.push(down);
  monitor.kill('SIGKILL');
  await monitor.ended;
  monitor.stopLoad();
  check(monitor);
  const next = new Monitor();
  await next.ready();
  took.monitor.push(performance.now() - next.startedAt);
  const others = () => ours().filter((pid) => pid !== next.pid && !isOf(next.pid, pid));
  await until(
    'the end of everybody who is left',
    () => others().length === 0 && !left.some(lives),
    () => JSON.stringify(others().map((pid) => [pid, titleOf(pid)])),
  );
  down.to = performance.now();
  took.orphans.push(down.to - down.from);
  return next;
}

function check(monitor) {
  assert.equal(monitor.stderr, '', 'the server, or its application, complains');
}

// ------------------------------------------------------------------------------------------ processes

function signal(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It was faster.
  }
}

const read = (path) => {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
};
const titleOf = (pid) => read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ');
const statOf = (pid) => read(`/proc/${pid}/stat`).split(') ').at(-1).split(' ');
const lives = (pid) => !['', 'Z', 'X'].includes(statOf(pid)[0]);
const childrenOf = (pid) => read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);

/** Everybody whom any of our monitors has begun, whatever he calls himself. */
function ours() {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && read(`/proc/${name}/environ`).includes(`FORKBEARD_SOAK=${mark}`))
    .map(Number)
    .filter(lives);
}

function isOf(ancestor, pid) {
  for (let at = pid; at > 1; at = Number(statOf(at)[1])) if (at === ancestor) return true;
  return false;
}

async function until(what, holds, more = () => '') {
  const deadline = performance.now() + PATIENCE;
  while (!(await holds())) {
    assert(performance.now() < deadline, `still waiting for ${what} ${more()}`);
    await delay(5);
  }
}

function url(path) {
  return `http://127.0.0.1:${port}${path}`;
}

/** Not one of those that clients are given: a client would connect to itself while nobody listens. */
async function freePort() {
  for (;;) {
    const candidate = 20_000 + Math.floor(Math.random() * 10_000);
    const probe = createServer().listen(candidate, '127.0.0.1');
    const free = await Promise.race([
      once(probe, 'listening').then(() => true),
      once(probe, 'error').then(() => false),
    ]);
    if (!free) continue;
    await new Promise((resolve) => probe.close(resolve));
    return candidate;
  }
}

// ------------------------------------------------------------------------------------------ the whole

let monitor = new Monitor();
try {
  await monitor.ready();
  const clients = Array.from({ length: CLIENTS }, client);
  const started = performance.now();
  await back(monitor);
  while (planned.length > 0 || performance.now() - started < seconds * 1000) monitor = await strike(monitor);
  await back(monitor);
  over = true;
  await Promise.all(clients);
  monitor.stopLoad();
  monitor.kill('SIGTERM');
  assert.deepEqual(await monitor.ended, [0, null]);
  check(monitor);
  assert.deepEqual(ours(), [], 'processes are left');
  assert.deepEqual(readdirSync(folder), ['app.mjs'], 'the control socket is left');
  assert.deepEqual(failures, [], 'requests failed');
} catch (error) {
  console.error(
    monitor.events
      .slice(-40)
      .map((event) => JSON.stringify(event))
      .join('\n'),
  );
  throw error;
} finally {
  over = true;
  monitor.stopLoad();
  for (const pid of ours()) signal(pid);
  rmSync(folder, { recursive: true, force: true });
  const spread = (list) => {
    const sorted = list.map(Math.round).sort((a, b) => a - b);
    return { times: sorted.length, p50: sorted[Math.floor(sorted.length / 2)], max: sorted.at(-1) };
  };
  console.log(
    JSON.stringify({
      node: process.version,
      ...values,
      blows,
      answered,
      failed: failures.length,
      ms: { pool: spread(took.pool), monitor: spread(took.monitor), orphans: spread(took.orphans) },
    }),
  );
}
