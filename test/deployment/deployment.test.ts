/** The files of docs/deployment hold what their pages say: systemd and a YAML parser read them, and their times fit. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { milliseconds } from '../../dist/daemon/units.js';
import { planOf } from '../../dist/prefork/options/plan-of.js';
import { checkOptions } from '../../dist/prefork/options/schema.js';

const file = (name: string) => fileURLToPath(new URL(`../../docs/deployment/${name}`, import.meta.url));
const text = (name: string) => readFileSync(file(name), 'utf8');
const example = fileURLToPath(new URL('../../examples/serve/http.mjs', import.meta.url));

/** The options in these words, checked as the command would. */
function planOfWords(words: readonly string[]) {
  const options: Record<string, string> = {};
  for (let index = 0; index < words.length; index++) {
    const [, name, value] = /^--([a-z-]+)(?:=(.*))?$/.exec(words[index] as string) ?? [];
    if (name === undefined) continue;
    options[name.replace(/-([a-z])/g, (_, letter) => letter.toUpperCase())] =
      value ?? (words[++index] as string);
  }
  return planOf(checkOptions({ application: example, ...options }, { spell: (option) => option, base: '/' }));
}

const hasSystemd = spawnSync('systemd-analyze', ['--version']).error === undefined;

describe('the systemd units', () => {
  const service = text('forkbeard-app.service');
  const seconds = (name: string) => Number(new RegExp(`^${name}=(\\d+)$`, 'm').exec(service)?.[1]);

  it.skipIf(!hasSystemd)('are understood by systemd (needs systemd-analyze)', () => {
    const folder = mkdtempSync(join(tmpdir(), 'forkbeard-units-'));
    const units = ['forkbeard-app.service', 'forkbeard-app.socket'].map((name) => {
      const path = join(folder, name);
      // The Node of this machine.
      writeFileSync(path, text(name).replaceAll('/usr/bin/node', process.execPath));
      return path;
    });
    const { stderr, status } = spawnSync('systemd-analyze', ['verify', '--man=no', ...units], {
      encoding: 'utf8',
      env: { ...process.env, LD_PRELOAD: '' },
    });
    rmSync(folder, { recursive: true });
    expect(stderr.split('\n').filter((line) => line.includes('forkbeard-app'))).toEqual([]);
    expect(status).toBe(0);
  });

  it('start with options that hold, and give them the time that they need', () => {
    const words = (/^ExecStart=(.*)$/m.exec(service)?.[1] ?? '').split(' ');
    expect(words.slice(1, 4)).toEqual(['/srv/app/node_modules/.bin/forkbeard', 'serve', 'app.mjs']);
    const { bootTimeout, gracefulTimeout, control } = planOfWords(words.slice(4));
    expect(seconds('TimeoutStopSec') * 1000).toBeGreaterThan(gracefulTimeout);
    expect(seconds('TimeoutStartSec') * 1000).toBeGreaterThan(2 * bootTimeout);
    expect(service).toContain(`ctl --control ${control} reload`);
  });
});

interface Manifest {
  kind: string;
  spec: Record<string, unknown>;
}

interface Probe {
  httpGet: { path: string; port: string };
  periodSeconds: number;
  failureThreshold: number;
}

describe('the Kubernetes manifest', () => {
  const documents = parseAllDocuments(text('kubernetes.yaml'), { strict: true, uniqueKeys: true });
  const [deployment, service] = documents.map((document) => document.toJS()) as [Manifest, Manifest];
  const pod = (deployment.spec as { template: { spec: Record<string, unknown> } }).template.spec;
  const [container] = pod['containers'] as [Record<string, unknown>];
  const probe = (name: string) => container[name] as Probe;
  const plan = planOfWords(container['args'] as string[]);

  it('is a deployment and its service, without an error', () => {
    expect(documents.flatMap(({ errors, warnings }) => [...errors, ...warnings])).toEqual([]);
    expect([deployment.kind, service.kind]).toEqual(['Deployment', 'Service']);
  });

  it('asks three questions, each of the right one', () => {
    expect(probe('startupProbe').httpGet).toEqual({ path: '/readyz', port: 'metrics' });
    expect(probe('livenessProbe').httpGet).toEqual({ path: '/livez', port: 'metrics' });
    expect(probe('readinessProbe').httpGet).toEqual({ path: '/readyz', port: 'metrics' });
    const ports = container['ports'] as { name: string; containerPort: number }[];
    const port = (name: string) => ports.find((candidate) => candidate.name === name)?.containerPort;
    expect(plan.metrics).toMatchObject({ port: port('metrics'), host: '0.0.0.0' });
    expect(plan.listen[0]).toMatchObject({ port: port('http'), host: '0.0.0.0' });
    const { periodSeconds, failureThreshold } = probe('startupProbe');
    expect(periodSeconds * failureThreshold * 1000).toBeGreaterThanOrEqual(2 * plan.bootTimeout);
  });

  it('drains within the grace period', () => {
    const { command } = (container['lifecycle'] as { preStop: { exec: { command: string[] } } }).preStop.exec;
    const before = Number(/(\d+)\)/.exec(command.at(-1) ?? '')?.[1]);
    const grace = (pod['terminationGracePeriodSeconds'] as number) * 1000;
    expect(before).toBeGreaterThan(0);
    expect(grace).toBeGreaterThan(before + plan.gracefulTimeout);
  });
});

describe('the Dockerfile', () => {
  const dockerfile = text('Dockerfile');
  const list = (name: string) =>
    JSON.parse(new RegExp(`^${name} (\\[.*\\])$`, 'm').exec(dockerfile)?.[1] ?? 'null') as string[];

  it('makes the monitor process 1: nothing stands before it', () => {
    expect(list('ENTRYPOINT')).toEqual(['node', 'node_modules/.bin/forkbeard', 'serve', 'app.mjs']);
  });

  it('has options that hold, and ports that fit', () => {
    const plan = planOfWords(list('CMD'));
    const exposed = /^EXPOSE (.*)$/m.exec(dockerfile)?.[1]?.split(' ').map(Number);
    expect([plan.listen[0], plan.metrics].map((target) => (target as { port: number }).port)).toEqual(
      exposed,
    );
    expect(dockerfile).toContain(`127.0.0.1:${(plan.metrics as { port: number }).port}/readyz`);
    expect(plan.gracefulTimeout).toBe(milliseconds('25s'));
  });
});

it('the guide has every option', async () => {
  const guide = readFileSync(fileURLToPath(new URL('../../docs/prefork.md', import.meta.url)), 'utf8');
  const { OPTIONS } = await import('../../dist/prefork/options/schema.js');
  for (const option of OPTIONS.filter((name) => name !== 'application' && name !== 'env')) {
    expect(guide).toContain(`\`--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`);
  }
});
