/** Nothing that JavaScript passes to a raw call crashes the process, whatever it is. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { sys } from 'forkbeard';
import { expect, test } from 'vitest';

const path = (name: string) => fileURLToPath(new URL(`fixtures/${name}.mjs`, import.meta.url));

test.each([1, 2])('a sweep of hostile arguments over every function (seed %d)', (seed) => {
  const { stdout, stderr, status, signal } = spawnSync(process.execPath, [path('hostile'), String(seed)], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
  const { functions, calls, problems } = JSON.parse(stdout);
  expect(problems).toEqual([]);
  expect(functions).toBe(Object.values(sys).filter((value) => typeof value === 'function').length);
  expect(calls).toBeGreaterThan(10_000);
});

test('the raw calls work in a Worker, with its own copy of the addon', async () => {
  const code = `
    import('forkbeard').then(({ sys }) => {
      const { parentPort } = require('node:worker_threads');
      const [a, b] = sys.socketpair();
      sys.write(a, Buffer.from('worker'));
      const buffer = Buffer.alloc(16);
      const bytes = sys.read(b, buffer);
      sys.close(a);
      sys.close(b);
      parentPort.postMessage(buffer.toString('latin1', 0, bytes));
    });`;
  for (let round = 0; round < 3; round++) {
    const worker = new Worker(code, { eval: true });
    const message = await new Promise((resolve, reject) => {
      worker.on('message', resolve);
      worker.on('error', reject);
    });
    expect(message).toBe('worker');
    await worker.terminate();
  }
});
