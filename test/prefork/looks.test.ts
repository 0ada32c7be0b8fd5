/** What is seen of a server: log, metrics, board. */

import { once } from 'node:events';
import { mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import { metricsServer } from '../../dist/daemon/metrics-endpoint.js';
import { board, Rates } from '../../dist/prefork/board.js';
import { Log } from '../../dist/prefork/log.js';
import { Metrics } from '../../dist/prefork/metrics.js';
import { EVENTS } from '../../dist/prefork/sentences.js';
import { exitRecord, FakeServer, worker } from './fake-server.ts';

const folder = mkdtempSync(join(tmpdir(), 'forkbeard-looks-'));
afterAll(() => rmSync(folder, { recursive: true }));

const lines = (file: string) => readFileSync(file, 'utf8').trimEnd().split('\n');

describe('the log', () => {
  it('is one JSON object a line, with time, level, event and the fields of the event', () => {
    const logFile = join(folder, 'json.log');
    const server = new FakeServer();
    new Log({ logFormat: 'json', logFile }).follow(server);
    server.emit('listening', { listen: ['tcp://127.0.0.1:3000'] });
    server.emit('worker-exit', exitRecord({ stack: 'at spin (app.js:3)\nat b', request: 'GET /spin' }));
    server.emit('reload-failed', { generation: 2, message: 'no database' });
    const [listening, exit, failed, ...none] = lines(logFile).map((line) => JSON.parse(line));
    expect(none).toEqual([]);
    expect(listening).toMatchObject({ level: 'info', event: 'listening', listen: ['tcp://127.0.0.1:3000'] });
    expect(Date.parse(listening.time)).toBeGreaterThan(Date.now() - 60_000);
    expect(exit).toMatchObject({
      level: 'error',
      event: 'worker-exit',
      ...exitRecord({ stack: 'at spin (app.js:3)\nat b', request: 'GET /spin' }),
    });
    expect(failed).toMatchObject({
      level: 'error',
      event: 'reload-failed',
      generation: 2,
      message: 'no database',
    });
  });

  it('goes on in a new file once the old one was renamed and it is told', () => {
    const logFile = join(folder, 'rotated.log');
    const server = new FakeServer();
    new Log({ logFormat: 'json', logFile }).follow(server);
    server.emit('scaled', { from: 1, to: 2 });
    renameSync(logFile, `${logFile}.1`);
    server.emit('scaled', { from: 2, to: 3 });
    server.reopenLogs();
    server.emit('scaled', { from: 3, to: 4 });
    const events = (file: string) => lines(file).map((line) => JSON.parse(line).event);
    expect(events(`${logFile}.1`)).toEqual(['scaled', 'scaled']);
    expect(events(logFile)).toEqual(['logs-reopened', 'scaled']);
  });

  it('speaks to people in a sentence, with the stack of what hung below it', () => {
    let text = '';
    const server = new FakeServer();
    new Log({ logFormat: 'pretty', logFile: null }, { write: (line) => (text += line) }).follow(server);
    server.emit('worker-slow', {
      worker: 2,
      pid: 9,
      reason: 'blocked-loop',
      age: 30_000,
      stack: 'at spin (app.js:3)',
    });
    server.emit('worker-exit', exitRecord());
    const plain = stripVTControlCharacters(text);
    expect(plain).toMatch(
      /\d\d:\d\d:\d\d.*WARN.*worker 2 \(pid 9\): its event loop has stood still for 30.0 s\n\s*at spin/,
    );
    expect(plain).toMatch(
      /ERROR.*worker 1 \(pid 101\) ended: blocked-loop, exit code 54, after 1 min and 12 requests\n/,
    );
  });

  it('cannot be opened where there is no place for it', () => {
    expect(() => new Log({ logFormat: 'json', logFile: join(folder, 'none/log') })).toThrow(/ENOENT/);
  });
});

describe('the metrics', () => {
  const value = (text: string, name: string) => {
    const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
    return line === undefined ? undefined : Number(line.slice(name.length + 1));
  };

  it('have the figures of every worker and of all', async () => {
    const server = new FakeServer();
    server.current.workers.push(
      worker({ id: 3, pid: 103, state: 'starting', memory: null, paused: 'descriptors' }),
    );
    const text = await new Metrics(server).text();
    expect(value(text, 'forkbeard_workers_target')).toBe(2);
    expect(value(text, 'forkbeard_workers{state="ready"}')).toBe(2);
    expect(value(text, 'forkbeard_workers{state="starting"}')).toBe(1);
    expect(value(text, 'forkbeard_ready')).toBe(1);
    expect(value(text, 'forkbeard_requests_total')).toBe(30);
    expect(value(text, 'forkbeard_requests_in_flight{worker="2"}')).toBe(1);
    expect(value(text, 'forkbeard_connections{worker="1"}')).toBe(3);
    expect(value(text, 'forkbeard_event_loop_lag_seconds{worker="1"}')).toBe(0.002);
    expect(value(text, 'forkbeard_worker_memory_bytes{worker="1",kind="uss"}')).toBe(6 * 2 ** 20);
    expect(value(text, 'forkbeard_memory_shared_ratio')).toBeCloseTo(0.9);
    expect(value(text, 'forkbeard_worker_paused{worker="3"}')).toBe(1);
  });

  it('count requests of workers that have ended, and never fall', async () => {
    const server = new FakeServer();
    const metrics = new Metrics(server);
    const total = async () => value(await metrics.text(), 'forkbeard_requests_total');
    expect(await total()).toBe(20);
    server.emit('worker-exit', exitRecord({ pid: 101, requests: 15 }));
    // Its entry is still there.
    expect(await total()).toBe(25);
    server.current.workers.shift();
    expect(await total()).toBe(25);
    // The same number once more, for somebody else.
    server.current.workers.push(worker({ id: 1, pid: 101, requests: 2 }));
    expect(await total()).toBe(27);
    server.current.workers = [];
    expect(await total()).toBe(27);
  });

  it('count ends by cause, restarts, reloads and the rest', async () => {
    const server = new FakeServer({ ready: 0 });
    const metrics = new Metrics(server);
    const start = { id: 1, pid: 1, generation: 1, method: 'fork' as const };
    server.emit('worker-started', start);
    server.emit('worker-ready', { ...start, ms: 7 });
    server.emit('ready', { workers: 1, generation: 1, ms: 9 });
    server.emit('worker-exit', exitRecord({ cause: 'kernel-oom' }));
    server.emit('worker-exit', exitRecord({ cause: 'kernel-oom' }));
    server.emit('worker-started', start);
    server.emit('reload-done', { generation: 2, ms: 5 });
    server.emit('backoff', { worker: 1, cause: 'uncaught', delay: 100, failures: 1 });
    const text = await metrics.text();
    expect(value(text, 'forkbeard_worker_exits_total{cause="kernel-oom"}')).toBe(2);
    expect(value(text, 'forkbeard_worker_starts_total{method="fork"}')).toBe(2);
    expect(value(text, 'forkbeard_worker_restarts_total')).toBe(1);
    expect(value(text, 'forkbeard_reloads_total{outcome="done"}')).toBe(1);
    expect(value(text, 'forkbeard_reloads_total{outcome="failed"}')).toBe(0);
    expect(value(text, 'forkbeard_backoffs_total{cause="uncaught"}')).toBe(1);
    expect(value(text, 'forkbeard_worker_boot_seconds_count')).toBe(1);
  });

  it('answer over HTTP, beside whether the server lives and serves', async () => {
    const server = new FakeServer({ state: 'starting', ready: 0 });
    let running: Metrics | undefined;
    const http = metricsServer(() => running);
    http.listen(0, '127.0.0.1');
    await once(http, 'listening');
    const get = async (path: string, method = 'GET') => {
      const response = await fetch(`http://127.0.0.1:${(http.address() as AddressInfo).port}${path}`, {
        method,
      });
      return [response.status, await response.text(), response.headers.get('content-type')];
    };
    expect((await get('/livez'))[0]).toBe(200);
    expect((await get('/readyz'))[0]).toBe(503);
    expect((await get('/metrics'))[0]).toBe(503);
    running = new Metrics(server);
    expect((await get('/readyz'))[0]).toBe(503);
    server.current = { ...server.current, state: 'reloading', ready: 2 };
    expect(await get('/readyz')).toEqual([200, 'reloading: 2 of 2 ready\n', expect.any(String)]);
    const [status, text, type] = await get('/metrics?x=1');
    expect([status, type]).toEqual([200, expect.stringContaining('version=0.0.4')]);
    expect(text).toContain('# TYPE forkbeard_workers gauge');
    server.current = { ...server.current, state: 'stopping' };
    expect((await get('/readyz'))[0]).toBe(503);
    expect((await get('/', 'GET'))[0]).toBe(404);
    expect((await get('/metrics', 'POST'))[0]).toBe(405);
    http.closeAllConnections();
    await new Promise((resolve) => http.close(resolve));
  });
});

describe('the board', () => {
  it('shows the address, the state and a line for every worker', () => {
    const { current } = new FakeServer({ exits: { memory: 2 } });
    const shown = board(current, new Map([[101, 250]]), { colour: false });
    expect(shown.join('\n')).toMatchInlineSnapshot(`
      "forkbeard http://127.0.0.1:3000
      ready · 2 of 2 ready · generation 1 · forked · 250 req/s · 40.0 MB, 90 % shared
      ended: 2 memory

      worker  pid  gen  state    age  req/s  requests  in flight  conns     lag     uss      rss
           1  101    1  ready  1 min    250        10          1      3  2.0 ms  6.0 MB  60.0 MB
           2  102    1  ready  1 min      0        10          1      3  2.0 ms  6.0 MB  60.0 MB"
    `);
  });

  it('fits the terminal: workers that have no room are counted, lines are cut', () => {
    const workers = Array.from({ length: 60 }, (_, index) => worker({ id: index + 1, pid: 1000 + index }));
    const { current } = new FakeServer({ workers, target: 60, ready: 60 });
    const shown = board(current, new Map(), { colour: true, rows: 24, columns: 40 });
    expect(shown.length).toBeLessThan(24);
    expect(shown.at(-1)).toMatch(/^… and \d+ more$/);
    for (const line of shown) expect(stripVTControlCharacters(line).length).toBeLessThanOrEqual(40);
  });

  it('does without columns where there is no room for them, and cuts no figure short', () => {
    const { current } = new FakeServer();
    const heads = [100, 80, 60, 40].map(
      (columns) => board(current, new Map(), { colour: true, columns }).map(stripVTControlCharacters)[3],
    );
    expect(heads).toEqual([
      'worker  pid  gen  state    age  req/s  requests  in flight  conns     lag     uss      rss',
      'worker  pid  gen  state    age  req/s  in flight  conns     lag     uss',
      'worker  pid  state    age  req/s  in flight     lag     uss',
      'worker  pid  state  req/s     uss',
    ]);
  });

  it('says why workers are spawned, and which one accepts nothing', () => {
    const { current } = new FakeServer({
      method: 'spawn',
      reason: 'a worker thread runs',
      workers: [worker({ paused: 'requests' })],
    });
    const shown = board(current, new Map(), { colour: false }).join('\n');
    expect(shown).toContain('spawned, not forked: a worker thread runs');
    expect(shown).toContain('ready (requests)');
  });

  it('knows requests a second from two looks', () => {
    const rates = new Rates();
    expect(rates.look([worker({ requests: 100 })], 0).get(101)).toBe(0);
    expect(rates.look([worker({ requests: 350 })], 500).get(101)).toBe(500);
    expect(rates.look([worker({ requests: 351 })], 501).get(101)).toBe(500);
    expect(rates.look([], 900).size).toBe(0);
  });
});

it('every event has its sentence', () => {
  expect(EVENTS).toContain('worker-exit');
  expect(new Set(EVENTS).size).toBe(EVENTS.length);
});
