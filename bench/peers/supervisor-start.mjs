// A start by a supervisor, with its shim, its lock and its record, and the plain one: until the program's own first words.
import { join } from 'node:path';
import { Loop } from 'forkbeard';
import { Supervisor } from 'forkbeard/supervisor';
import { born, finish, folder, service } from './supervisor-work.mjs';

const count = Number(process.argv[2]);
const loop = Loop.current();
const supervisor = new Supervisor({
  stateDir: join(folder, 'state'),
  services: { service: { command: service } },
});
const plain = [];
const shim = [];
for (let turn = 0; turn < count; turn++) {
  plain.push(
    await timed(async () => {
      const child = loop.spawn({ command: service });
      return async () => {
        child.kill('SIGKILL');
        await child.exited;
      };
    }),
  );
  shim.push(
    await timed(async () => {
      const started = supervisor.startService('service');
      return async () => {
        await started;
        await supervisor.stopService('service');
      };
    }),
  );
}
const [plainMs, shimMs] = [plain, shim].map((all) => all.sort((one, other) => one - other)[count >> 1]);
console.log(JSON.stringify({ plain: plainMs, shim: shimMs, more: shimMs - plainMs }));
await supervisor.stop();
finish();

/** ms until it runs. What it returns ends it. */
async function timed(start) {
  const running = born();
  const began = performance.now();
  const end = await start();
  await running;
  const took = performance.now() - began;
  await end();
  return took;
}
