// Starts a Node process with child_process.fork, which shares nothing.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

if (process.argv[2] === 'child') {
  writeSync(4, String(Number(process.hrtime.bigint()) / 1e6));
  process.exit();
}
const { sys } = await import('forkbeard');
const { measure, now } = await import('./fork-work.mjs');
const pipe = sys.pipe();
for (const fd of pipe) sys.setNonBlocking(fd, false);
const figures = await measure((fd) => {
  const child = fork(fileURLToPath(import.meta.url), ['child'], { stdio: [0, 1, 2, 'ipc', fd] });
  return { started: now(), ended: once(child, 'exit') };
}, pipe);
console.log(JSON.stringify(figures));
