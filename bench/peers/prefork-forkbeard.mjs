// Workers of a prefork server whose mold is there: `loaded` as it was loaded, `warm` made of a worker that had answered requests.
import { get } from 'node:http';
import { fileURLToPath } from 'node:url';
import { prefork } from 'forkbeard/prefork';
import { measure, requests, workers } from './workers-work.mjs';

const warm = process.argv[4] === 'warm';
const server = await prefork({
  application: fileURLToPath(new URL('workers-app.mjs', import.meta.url)),
  workers: 1,
  listen: 'tcp://127.0.0.1:0',
  control: false,
  ...(warm && { reforkAfter: [requests] }),
});
await server.ready;
const { port } = new URL(server.status().listen[0].replace('tcp:', 'http:'));
if (warm) {
  const reforked = new Promise((resolve) => server.once('refork', resolve));
  const renewed = new Promise((resolve) => {
    server.on('worker-exit', ({ generation }) => generation === 1 && resolve());
  });
  const ask = (path) =>
    new Promise((resolve, reject) => {
      get({ host: '127.0.0.1', port, path, agent: false }, (response) =>
        response.resume().on('end', resolve),
      ).on('error', reject);
    });
  for (let i = 0; i <= requests; i++) await ask(i % 2 === 0 ? '/express/0' : '/fastify/0');
  await reforked;
  await renewed;
}
await server.drain();

await measure(
  async () => {
    await server.scale(workers);
    return Array(workers).fill(port);
  },
  () => server.status().workers.map(({ pid }) => pid),
);
await server.stop({ quick: true });
