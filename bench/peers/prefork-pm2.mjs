// Workers of PM2's cluster mode, its daemon being there already.
import { fileURLToPath } from 'node:url';
import { daemon } from './prefork-daemon.mjs';
import { measure, workers } from './workers-work.mjs';

const pm2 = await daemon();
try {
  await measure(
    async () => {
      const port = await pm2.start(fileURLToPath(new URL('workers-listening.mjs', import.meta.url)), workers);
      return Array(workers).fill(port);
    },
    () => pm2.pids(),
    { root: pm2.pid },
  );
} finally {
  await pm2.end();
}
