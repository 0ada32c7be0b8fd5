// Times workers and weighs them, for the worker peers. A peer supplies `start()`, which starts all workers and gives (a
// promise of) the port of each, which may be the same, once they listen, and `pids()`, (a promise of) the processes that
// they are in, which nobody is timed for.
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, get } from 'node:http';

export const [workers, requests] = process.argv.slice(2, 4).map(Number);

let asked = 0;

/** One request on a connection of its own. */
function ask(port) {
  asked++;
  const path = `/${asked % 2 === 0 ? 'express' : 'fastify'}/${asked}`;
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part) => {
        text += part;
      });
      response.on('end', () => resolve(JSON.parse(text)));
    }).on('error', reject);
  });
}

/** Asks until each worker has answered so often. `who` tells them apart: by pid, or by port where they are in one process. */
async function askAll(ports, times, who) {
  const answers = new Map();
  while (answers.size < workers || Math.min(...answers.values()) < times) {
    await Promise.all(
      ports.map(async (port) => {
        const name = who(await ask(port), port);
        answers.set(name, (answers.get(name) ?? 0) + 1);
      }),
    );
  }
}

function weigh(pids) {
  let uss = 0;
  let pss = 0;
  for (const pid of pids) {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
    const kilobytes = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(rollup)?.[1] ?? 0);
    uss += kilobytes('Private_Clean') + kilobytes('Private_Dirty');
    pss += kilobytes('Pss');
  }
  return { uss: uss / 1024 / workers, pss: pss / 1024 / workers };
}

/** A process and all that come of it: what they have for themselves, and what they share, once. */
function weighAll(root) {
  const pids = [root];
  for (const pid of pids) {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${task}/children`, 'latin1');
      pids.push(...children.trim().split(' ').filter(Boolean).map(Number));
    }
  }
  return weigh(pids).pss * workers;
}

/** What asks is compiled by asking others: that is nothing that workers take time for. */
async function practise() {
  const server = createServer((_, response) => response.end('{}'));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  for (let i = 0; i < workers; i++) await ask(server.address().port);
  await new Promise((resolve) => server.close(resolve));
}

/** `root`: the process that the workers come of. */
export async function measure(start, pids, { who = ({ pid }) => pid, root = process.pid } = {}) {
  await practise();
  const before = performance.now();
  const ports = await start();
  await askAll(ports, 1, who);
  const answered = performance.now() - before;
  const ready = weigh(await pids());
  await askAll(ports, requests, who);
  const served = weigh(await pids());
  const together = weighAll(root);
  console.log(
    JSON.stringify({
      answered,
      readyUss: ready.uss,
      readyPss: ready.pss,
      servedUss: served.uss,
      servedPss: served.pss,
      together,
    }),
  );
}
