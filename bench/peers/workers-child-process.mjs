// Workers of child_process.fork, each with a port of its own.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

if (process.send !== undefined) {
  const { serve } = await import('./workers-app.mjs');
  process.send((await serve({ host: '127.0.0.1', port: 0 })).address().port);
} else {
  const { measure, workers } = await import('./workers-work.mjs');
  const children = [];
  await measure(
    () => {
      for (let i = 0; i < workers; i++) children.push(fork(fileURLToPath(import.meta.url)));
      return Promise.all(children.map(async (child) => (await once(child, 'message'))[0]));
    },
    () => children.map(({ pid }) => pid),
  );
  for (const child of children) child.kill();
}
