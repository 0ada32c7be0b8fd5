// Workers of node:cluster, which share a port.
import cluster from 'node:cluster';
import { once } from 'node:events';

if (cluster.isWorker) {
  const { serve } = await import('./workers-app.mjs');
  await serve({ host: '127.0.0.1', port: 0 });
} else {
  const { measure, workers } = await import('./workers-work.mjs');
  await measure(
    async () => {
      for (let i = 0; i < workers; i++) cluster.fork();
      const places = await Promise.all(
        Object.values(cluster.workers).map(async (worker) => (await once(worker, 'listening'))[0]),
      );
      return places.map(({ port }) => port);
    },
    () => Object.values(cluster.workers).map(({ process }) => process.pid),
  );
  cluster.disconnect();
}
