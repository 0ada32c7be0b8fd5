/**
 * A worker's life, of forked and of spawned ones: it serves as soon as it says that it is ready, answers what is in
 * flight when it is told to stop, and ends with the code that its end deserves.
 */
import { describe, expect, test } from 'vitest';
import { ask, methods, monitorForEach } from './tiny-monitor.ts';

const start = monitorForEach();

describe.each(methods)('a worker by %s', (method) => {
  test('serves once it is ready, and knows who it is', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    const { status, body } = await ask(`${monitor.url}/worker`);
    expect(status).toBe(200);
    expect(JSON.parse(body)).toEqual({
      id: 1,
      pid: worker.pid,
      process: worker.pid,
      generation: 1,
      method,
    });
    expect(worker.heard.map(({ type }) => type)).toEqual(['hello', 'ready']);
  });

  test('answers what is in flight before it leaves, and ends with 0', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    const slow = ask(`${monitor.url}/slow?ms=300`);
    await until(() => worker.entry.get('inFlight') === 1);
    worker.say({ type: 'stop', how: 'graceful', recycled: false });
    const { status, body, headers } = await slow;
    expect({ status, body, connection: headers.connection }).toEqual({
      status: 200,
      body: 'slow\n',
      connection: 'close',
    });
    expect(await worker.end()).toBe(0);
  });
});

async function until(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setImmediate(resolve));
}
