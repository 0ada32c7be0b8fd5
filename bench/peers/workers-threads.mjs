// Workers of node:worker_threads, each with a port of its own, all in one process.
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';

if (!isMainThread) {
  const { serve } = await import('./workers-app.mjs');
  parentPort.postMessage((await serve({ host: '127.0.0.1', port: 0 })).address().port);
} else {
  const { measure, workers } = await import('./workers-work.mjs');
  await measure(
    () => {
      const argv = process.argv.slice(2);
      const threads = Array.from(
        { length: workers },
        () => new Worker(fileURLToPath(import.meta.url), { argv }),
      );
      return Promise.all(threads.map(async (thread) => (await once(thread, 'message'))[0]));
    },
    () => [process.pid],
    { who: (_, port) => port },
  );
  process.exit();
}
