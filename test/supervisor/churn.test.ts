/**
 * Services that are started, stopped, restarted and killed at random, and their shims with them: there are never two
 * instances of one, and in the end nothing is left, here or there. A second of it; for more, and a thousand cycles instead
 * of fifty, FORKBEARD_TEST_CHURN says how many seconds. FORKBEARD_TEST_SEED repeats a sequence, as far as the kernel does.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { ServiceSpec } from 'forkbeard/supervisor';
import { expect, test } from 'vitest';
import { readRecord } from '../../dist/supervisor/state.js';
import { Overseen, script } from './overseen.ts';
import { eventually, marked, within } from './support.ts';

const seconds = Number(process.env['FORKBEARD_TEST_CHURN'] ?? 1);
const isLong = process.env['FORKBEARD_TEST_CHURN'] !== undefined;

/** What is open here, by kind: what a descriptor leads to, without the number of it. */
function descriptors(): string[] {
  const kinds = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).replace(/\[\d+\]$/, '');
    } catch {
      // The folder's own.
      return '';
    }
  });
  return kinds.filter((kind) => kind !== '').sort();
}

const soon = { backoff: { min: 0, max: 20 }, intensity: { restarts: 1e6, within: 1 } } as const;
const stop = [{ signal: 'TERM', wait: 50 }, { signal: 'KILL' }];

test.runIf(process.platform === 'linux')(
  'cycles of starts and stops leave the descriptors as they were',
  async () => {
    const names = ['a', 'b', 'c', 'd', 'e'];
    const service: ServiceSpec = { command: ['sleep', '1000'], listen: 'tcp://127.0.0.1:0' };
    const s = new Overseen({ services: Object.fromEntries(names.map((name) => [name, service])) });
    await s.it.start();
    await s.it.stop();
    // A shim's own end is heard after its connection's.
    await eventually('the end of all shims', () => !descriptors().includes('anon_inode:[pidfd]'));
    const before = descriptors();
    for (let cycle = 0; cycle < (isLong ? 200 : 10); cycle++) {
      await s.it.start();
      expect((await s.it.stop()).survivors).toEqual({});
    }
    expect(s.of('exit')).toHaveLength(isLong ? 1005 : 55);
    // What was just being closed may have been counted before; what leaks is there fifty times.
    const grown = () => {
      const rest = [...before];
      return descriptors().filter((kind) => {
        const at = rest.indexOf(kind);
        if (at >= 0) rest.splice(at, 1);
        return at < 0;
      });
    };
    await eventually('no more than before', () => grown().length === 0).catch(() =>
      expect(grown(), `beside ${before}`).toEqual([]),
    );
    expect(marked(`FORKBEARD_STATE_DIR=${s.stateDir}`)).toEqual([]);
  },
);

/** mulberry32. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Living processes that have these in their environment, and what else is there. */
function those(service: string, stateDir: string): { pid: number; runId: string | undefined }[] {
  return marked(`FORKBEARD_SERVICE=${service}`).flatMap((pid) => {
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
      if (!environment.includes(`FORKBEARD_STATE_DIR=${stateDir}`)) return [];
      return [{ pid, runId: environment.find((line) => line.startsWith('FORKBEARD_RUN_ID='))?.slice(17) }];
    } catch {
      return [];
    }
  });
}

test.runIf(process.platform === 'linux')(
  'whatever happens to them, services are there once, and gone when they are stopped',
  { timeout: (60 + seconds) * 1000 * 4 },
  async () => {
    const seed = Number(process.env['FORKBEARD_TEST_SEED'] ?? Date.now() % 2 ** 31);
    console.info(`FORKBEARD_TEST_SEED=${seed}`);
    const random = randomFrom(seed);
    const one = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)] as T;
    const kinds: Record<string, ServiceSpec> = {
      plain: { command: ['sleep', '1000'] },
      deaf: { ...script("trap '' TERM; while :; do sleep 0.05; done"), stop },
      daemon: script('setsid -f sleep 1000; exec sleep 1000'),
      leader: { ...script("(trap '' TERM; sleep 1000) & sleep 0.05; exit 1"), stop },
      brief: script('sleep 0.$$; exit 3'),
      slow: { command: ['sleep', '1000'], ready: { exec: ['sleep', '0.02'] } },
      kept: { command: ['sleep', '1000'], mode: 'independent' },
    };
    const services = Object.fromEntries(
      Object.entries(kinds).map(([name, spec]) => [name, { ...spec, ...soon } as ServiceSpec]),
    );
    const names = Object.keys(services);
    const s = new Overseen({ services });
    const ofThis = `FORKBEARD_STATE_DIR=${s.stateDir}`;
    const lost = new Set<string>();
    const wrong: string[] = [];
    s.it.on('started', ({ service, runId }) => {
      for (const { pid, runId: other } of those(service, s.stateDir))
        if (other !== runId) wrong.push(`${service} was started beside ${pid}, which is of run ${other}`);
    });
    s.it.on('orphans', ({ service, orphans }) => {
      for (const { runId } of orphans)
        if (!lost.has(runId))
          wrong.push(`${service} left an orphan of run ${runId}, whose shim was not killed`);
    });
    // Those that end by themselves may never be seen to be ready.
    const settled = names.filter((name) => !/^(brief|leader)/.test(name));
    void s.it.start();
    await within('a start', Promise.all(settled.map((name) => s.it.startService(name))));
    const before = descriptors();
    const send = (pid: number, signal: NodeJS.Signals) => {
      try {
        process.kill(pid, signal);
      } catch {
        // It has ended since.
      }
    };
    const recordOf = (name: string) => {
      const found = readRecord(join(s.stateDir, `${name}.pid`));
      return found.kind === 'record' ? found.record : null;
    };
    const actions: Record<string, (name: string) => unknown> = {
      kill: (name) => send(s.pid(name) ?? 0x7fff_ffff, one(['SIGKILL', 'SIGTERM', 'SIGSEGV', 'SIGUSR1'])),
      halt: (name) => send(s.pid(name) ?? 0x7fff_ffff, one(['SIGSTOP', 'SIGCONT'])),
      lose: (name) => {
        const record = recordOf(name);
        if (record === null) return;
        lost.add(record.runId);
        send(record.shim.pid, 'SIGKILL');
      },
      start: (name) => s.it.startService(name),
      stop: (name) => s.it.stopService(name),
      restart: (name) => s.it.restartService(name),
    };
    const until = performance.now() + seconds * 1000;
    for (let done = 0; (done < 12 || performance.now() < until) && wrong.length === 0; done++) {
      const name = one(names);
      const acted = Promise.resolve(actions[one(Object.keys(actions))]?.(name)).catch(() => {});
      if (random() < 0.3 && settled.includes(name)) await within('what was asked for', acted);
      else await new Promise((resolve) => setTimeout(resolve, random() * 20));
    }
    expect(wrong).toEqual([]);
    for (const name of names) send(s.pid(name) ?? 0x7fff_ffff, 'SIGCONT');
    await within('all of them', Promise.all(settled.map((name) => s.it.startService(name))));
    for (const name of settled) expect(s.it.status().services[name]).toMatchObject({ owned: true });
    expect((await within('a stop', s.it.stop())).survivors).toEqual({});
    expect(wrong).toEqual([]);
    expect(marked(ofThis)).toEqual([]);
    // The record of a run whose shim was killed stays until the next start: it is evidence.
    const isEvidence = (file: string) => lost.has(recordOf(file.replace(/\.pid$/, ''))?.runId ?? '');
    const left = readdirSync(s.stateDir).filter((file) => !file.endsWith('.lock') && !isEvidence(file));
    expect(left).toEqual([]);
    expect(s.of('failed')).toEqual([]);
    await eventually('no more descriptors', () => descriptors().length <= before.length);
  },
);
