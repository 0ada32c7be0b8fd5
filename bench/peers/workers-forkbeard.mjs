// Workers forked from a mold: a process that has loaded the application and has answered some requests itself.
import { once } from 'node:events';
import { get } from 'node:http';
import { Loop, sys } from 'forkbeard';
import { measure, requests, workers } from './workers-work.mjs';

const loop = Loop.current();
// Asked before the application is loaded, so that it is loaded to where forks are cheapest.
loop.forkSafety();
const { serve } = await import('./workers-app.mjs');

const warm = await serve({ host: '127.0.0.1', port: 0 });
for (let i = 0; i < requests; i++) {
  const path = i % 2 === 0 ? '/express/0' : '/fastify/0';
  const [response] = await once(get({ port: warm.address().port, path, agent: false }), 'response');
  await once(response.resume(), 'end');
}
await new Promise((resolve) => warm.close(resolve));
// What is garbage would be copied when the next collection of a worker moves it.
for (let i = 0; i < 2; i++) globalThis.gc();

const children = [];
await measure(
  async () => {
    const listeners = Array.from({ length: workers }, () => sys.listen({ host: '127.0.0.1', port: 0 }));
    const forks = listeners.map((listener) =>
      loop.fork({ inherit: [listener], code: () => void serve({ fd: listener }) }),
    );
    children.push(...(await Promise.all(forks)));
    const ports = listeners.map((listener) => sys.localAddress(listener).port);
    for (const listener of listeners) sys.close(listener);
    return ports;
  },
  () => children.map(({ pid }) => pid),
);
await Promise.all(children.map((child) => child.stop()));
process.exit();
