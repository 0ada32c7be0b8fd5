// What the peers of the supervisor have in common: a service that says in a fifo that it runs, and how long each crash
// lasts, seen from there and from nowhere else: the same for every supervisor.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

export const folder = mkdtempSync(join(tmpdir(), 'forkbeard-bench-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

const fifo = join(folder, 'fifo');
execFileSync('mkfifo', [fifo]);
const door = new Socket({ fd: openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK) });
const births = createInterface(door);

/** Its pid, in the fifo; and there it stays. */
export const service = join(folder, 'service');
writeFileSync(service, `#!/bin/sh\necho $$ >${fifo}\nexec sleep 1000000\n`, { mode: 0o755 });

/** The pid of the next service that runs. */
export async function born() {
  const [line] = await once(births, 'line');
  return Number(line);
}

/**
 * Kills the service so many times, each time after `pause` ms of life, and prints how long it was gone, ms, and what its
 * keeper (its parent) has in memory, MB.
 */
export async function measure(start, count, pause) {
  const first = born();
  await start();
  let pid = await first;
  const gone = [];
  for (let crash = 0; crash < count; crash++) {
    await delay(pause);
    const next = born();
    const began = performance.now();
    process.kill(pid, 'SIGKILL');
    pid = await next;
    gone.push(performance.now() - began);
  }
  gone.sort((one, other) => one - other);
  const at = (part) => gone[Math.min(gone.length - 1, Math.floor(gone.length * part))];
  console.log(JSON.stringify({ median: at(0.5), p99: at(0.99), ...memory(parentOf(pid)) }));
}

export function parentOf(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
}

function memory(pid) {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
  const of = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)[1]) / 1024;
  return { rss: of('Rss'), pss: of('Pss') };
}

/** Nobody waits for the fifo any more. */
export function finish() {
  door.destroy();
}
