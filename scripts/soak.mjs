/**
 * Forks a Node process again and again while it serves HTTP under load, its code being compiled and its garbage
 * collected meanwhile, and lets every child do what a Node process does. `npm run soak`, or with another Node:
 *
 *   node scripts/soak.mjs [--forks=N] [--seconds=S] [--brief] [--memory=MB]
 *
 * Default: 150 forks, for CI. With --seconds it goes on for so long, and at least for N forks. With --brief a child ends
 * at once, for many times more forks: what goes wrong while one is born. Fails on a child that hangs, crashes or does not
 * get everything done, on a failed request, and on growth of descriptors, children or memory. The load comes from wrk, or
 * without one from a small client of ours. Prints one JSON line at the end.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash, pbkdf2 } from 'node:crypto';
import { promises as dns } from 'node:dns';
import { promises as fs, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import http from 'node:http';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { gunzip, gzip } from 'node:zlib';
import { Loop } from 'forkbeard';

const { values } = parseArgs({
  options: {
    forks: { type: 'string', default: '150' },
    seconds: { type: 'string', default: '0' },
    brief: { type: 'boolean', default: false },
    memory: { type: 'string', default: '40' },
    load: { type: 'string' },
  },
});

/** How long a child may take for all of it, ms: generous, as there may be many on few cores. */
const PATIENCE = 60_000;
const AT_ONCE = 3;
const DONE = 7;

if (values.load === undefined) await soak(values);
else await load(values.load);

async function soak({ forks, seconds, brief, memory }) {
  const loop = Loop.current();
  const ballast = Array.from({ length: memory * 4000 }, (_, i) => ({ i, half: [i / 2] }));
  let served = 0;
  let inChild = false;
  const server = http.createServer((_, response) => {
    served++;
    assert(!inChild, "the parent's server answers in a child");
    response.end(JSON.stringify(Array.from({ length: 200 }, (_, i) => ({ i, s: `x${i}` }))));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${server.address().port}/`;
  const client = startLoad(url);

  const latencies = [];
  const bad = [];
  let good = 0;
  let before;
  const fork = async () => {
    const asked = performance.now();
    const child = await loop.fork({
      code: async () => {
        inChild = true;
        if (!brief) await everything(served, () => served, ballast);
        return DONE;
      },
    });
    latencies.push(performance.now() - asked);
    const timer = setTimeout(() => {
      bad.push(`${child.pid} hangs`);
      child.kill('SIGKILL');
    }, PATIENCE);
    const { exitCode, signal } = await child.exited;
    clearTimeout(timer);
    if (exitCode === DONE) good++;
    else bad.push(`${child.pid} ended with ${signal ?? exitCode}`);
  };
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  let begun = 0;
  const lane = async () => {
    while ((begun < forks || elapsed() < seconds) && bad.length < 10) {
      begun++;
      await fork().catch((error) =>
        bad.push(`${error.code ?? error.name}: ${error.message}, ${error.signal ?? ''}`),
      );
      // What the first ones leave behind is there for good: modules, caches.
      if (good === Math.min(30, Math.ceil(forks / 3))) before = usage();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  const took = Math.round(elapsed());
  const errors = await client.stop();
  const after = usage();
  server.closeAllConnections();
  server.close();

  latencies.sort((a, b) => a - b);
  const at = (share) => Number(latencies[Math.floor(latencies.length * share)]?.toFixed(2));
  console.log(
    JSON.stringify({
      node: process.version,
      forks: good + bad.length,
      good,
      bad,
      seconds: took,
      latency: { p50: at(0.5), p99: at(0.99), max: at(0.999999) },
      served,
      errors,
      before,
      after,
    }),
  );
  assert.equal(good, begun);
  assert.deepEqual(errors, [], 'requests failed');
  assert(after.descriptors <= before.descriptors + 2, 'descriptors grow');
  assert.equal(after.children, 0, 'children are left over');
  assert(after.megabytes <= before.megabytes * 1.5 + 50, 'memory grows');
}

function usage() {
  const status = readFileSync('/proc/self/status', 'utf8');
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').split(' ').filter(Boolean);
  const dead = children.filter((pid) => {
    try {
      return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
    } catch {
      return false;
    }
  });
  return {
    descriptors: readdirSync('/proc/self/fd').filter((fd) => !comesAndGoes(fd)).length,
    children: dead.length,
    megabytes: Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)[1]) / 1024),
  };
}

/** Connections of the load, and what belongs to children that live. */
function comesAndGoes(fd) {
  try {
    return /^(socket:|pipe:|anon_inode:\[pidfd\]|pidfd:)/.test(readlinkSync(`/proc/self/fd/${fd}`));
  } catch {
    return true;
  }
}

/** What a Node process can do, once. */
async function everything(servedBefore, served, ballast) {
  const { Loop } = await import('forkbeard');
  const stat = await fs.readFile('/proc/self/stat', 'utf8');
  assert(stat.startsWith(`${process.pid} `));
  const { address } = await dns.lookup('localhost');
  assert.match(address, /^(127\.|::1)/);
  const text = Buffer.from('forkbeard '.repeat(5000));
  assert.deepEqual(await promisify(gunzip)(await promisify(gzip)(text)), text);
  assert.equal((await promisify(pbkdf2)('secret', 'salt', 1000, 32, 'sha256')).length, 32);

  const own = http.createServer((_, response) => response.end('child'));
  await new Promise((resolve) => own.listen(0, '127.0.0.1', resolve));
  const body = await fetch(`http://127.0.0.1:${own.address().port}/`, { headers: { connection: 'close' } });
  assert.equal(await body.text(), 'child');
  own.closeAllConnections();
  own.close();

  // Compiled, and collected twice over.
  let kept = [];
  let sum = 0;
  for (let i = 0; i < 300_000; i++) {
    kept.push({ i, next: kept.at(-1)?.i });
    sum = (sum + ballast[i % ballast.length].i) % 1_000_003;
    if (kept.length > 10_000) kept = [];
  }
  assert(sum > 0);
  const hash = createHash('sha256').update(String(sum)).digest('hex');
  assert.equal(hash.length, 64);

  const before = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert(performance.now() - before >= 19);
  await Loop.current().delay(5);
  const echo = await new Promise((resolve, reject) => {
    const program = spawn('echo', ['hello']);
    let output = '';
    program.stdout.on('data', (chunk) => (output += chunk));
    program.on('error', reject).on('close', () => resolve(output));
  });
  assert.equal(echo, 'hello\n');
  const answer = await new Promise((resolve, reject) => {
    const worker = new Worker(
      `const { parentPort } = require('node:worker_threads');
       let garbage = [];
       for (let i = 0; i < 100000; i++) { garbage.push({ i }); if (garbage.length > 5000) garbage = []; }
       parentPort.postMessage(6 * 7);`,
      { eval: true },
    );
    worker.on('message', resolve).on('error', reject);
  });
  assert.equal(answer, 42);
  assert.equal(served(), servedBefore, "the parent's requests are answered in a child");
}

// ------------------------------------------------------------------------------------------ the load

function startLoad(url) {
  const wrk = spawnSync('wrk', ['-v']).error === undefined;
  const child = wrk
    ? spawn('wrk', ['-t1', '-c20', '-d24h', '--timeout=30s', url], { stdio: ['ignore', 'pipe', 'inherit'] })
    : spawn(process.execPath, [fileURLToPath(import.meta.url), `--load=${url}`], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  return {
    stop: () =>
      new Promise((resolve) => {
        child.on('close', () => {
          if (!/(\d+) requests in/.test(output)) return resolve(['the load ended without a word']);
          resolve(output.split('\n').filter((line) => /Socket errors|Non-2xx/.test(line)));
        });
        child.kill('SIGINT');
      }),
  };
}

/** Twenty connections that ask all the time; says what went wrong when it is interrupted, as wrk does. */
async function load(url) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 20 });
  let requests = 0;
  let failed = 0;
  process.on('SIGINT', () => {
    console.log(`${requests} requests in all`);
    if (failed > 0) console.log(`Socket errors: ${failed}`);
    process.exit();
  });
  const ask = () => {
    http
      .get(url, { agent }, (response) => {
        if (response.statusCode !== 200) failed++;
        response.resume().on('end', () => {
          requests++;
          ask();
        });
      })
      .on('error', () => {
        failed++;
        setTimeout(ask, 10);
      });
  };
  for (let i = 0; i < 20; i++) ask();
}
