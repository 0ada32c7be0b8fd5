// Several supervisors of one state directory that start the same service at the same moment, again and again: how many
// instances there were, and how long it took until all had it.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [starters, rounds, stateDir] = process.argv.slice(2);
if (stateDir === undefined) await measure();
else await serve();

async function serve() {
  const { Supervisor } = await import('forkbeard/supervisor');
  let supervisor;
  process.on('message', async (order) => {
    if (order === 'start') {
      supervisor = new Supervisor({ stateDir, services: { service: { command: ['sleep', '1000000'] } } });
      const { pid, owned } = await supervisor.startService('service');
      process.send({ pid, owned });
    } else {
      await supervisor.stop();
      process.send('stopped');
    }
  });
  process.on('disconnect', () => process.exit());
  process.send('ready');
}

async function measure() {
  const folder = mkdtempSync(join(tmpdir(), 'forkbeard-bench-'));
  const program = fileURLToPath(import.meta.url);
  const children = Array.from({ length: Number(starters) }, () => fork(program, [starters, rounds, folder]));
  const answers = (from = children) =>
    Promise.all(from.map(async (child) => ({ child, said: (await once(child, 'message'))[0] })));
  try {
    await answers();
    let most = 0;
    const times = [];
    for (let round = 0; round < Number(rounds); round++) {
      const began = performance.now();
      const all = answers();
      for (const child of children) child.send('start');
      const said = await all;
      times.push(performance.now() - began);
      const owners = said.filter((one) => one.said.owned).length;
      const pids = new Set(said.map((one) => one.said.pid)).size;
      most = Math.max(most, owners, pids);
      // Those that have not got it first: else one of them would take over.
      const others = said.filter((one) => !one.said.owned).map((one) => one.child);
      const owner = said.filter((one) => one.said.owned).map((one) => one.child);
      for (const group of [others, owner]) {
        const stopped = answers(group);
        for (const child of group) child.send('stop');
        await stopped;
      }
    }
    times.sort((one, other) => one - other);
    console.log(JSON.stringify({ instances: most, median: times[times.length >> 1] }));
  } finally {
    for (const child of children) child.disconnect();
    await Promise.all(children.map((child) => child.exitCode ?? once(child, 'exit')));
    rmSync(folder, { recursive: true, force: true });
  }
}
