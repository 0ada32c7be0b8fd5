// A supervisor of many services that is killed: until nothing of it is left, neither a service nor a shim.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const [count, stateDir] = process.argv.slice(2);
if (stateDir === undefined) await measure();
else await supervise();

async function supervise() {
  const { Supervisor } = await import('forkbeard/supervisor');
  const services = Object.fromEntries(
    Array.from({ length: Number(count) }, (_, index) => [
      `service-${index}`,
      { command: ['sleep', '1000000'] },
    ]),
  );
  await new Supervisor({ stateDir, services }).start();
  const record = (name) => JSON.parse(readFileSync(join(stateDir, `${name}.pid`), 'utf8'));
  const pids = Object.keys(services).flatMap((name) => [record(name).pid, record(name).shim.pid]);
  process.stdout.write(`${JSON.stringify(pids)}\n`);
}

async function measure() {
  const folder = mkdtempSync(join(tmpdir(), 'forkbeard-bench-'));
  try {
    const began = performance.now();
    const program = [fileURLToPath(import.meta.url), count, folder];
    const child = spawn(process.execPath, program, { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = await once(child.stdout, 'data');
    const started = performance.now() - began;
    const pids = JSON.parse(line);
    if (pids.length !== 2 * Number(count)) throw new Error(`there are only ${pids.length} processes`);
    const killed = performance.now();
    child.kill('SIGKILL');
    // Their parent's parent has gone: nobody is told of their ends.
    for (const pid of pids) while (existsSync(`/proc/${pid}`)) await delay(1);
    console.log(JSON.stringify({ started, gone: performance.now() - killed }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
