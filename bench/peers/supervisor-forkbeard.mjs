// Crashes of a service of forkbeard's.
import { join } from 'node:path';
import { Supervisor } from 'forkbeard/supervisor';
import { finish, folder, measure, service } from './supervisor-work.mjs';

const [count, pause] = process.argv.slice(2).map(Number);
const supervisor = new Supervisor({
  stateDir: join(folder, 'state'),
  intensity: { restarts: 1_000_000 },
  services: { service: { command: service, backoff: { min: 0, max: 0 } } },
});
await measure(() => supervisor.start(), count, pause);
await supervisor.stop();
finish();
