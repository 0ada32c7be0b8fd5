// Run with the path of the command: serves app.mjs by it, asks it by `ctl`, and stops it.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const command = process.argv[2];
const server = spawn(
  command,
  ['serve', 'app.mjs', '--workers', '2', '--listen', 'tcp://127.0.0.1:0', '--control', 'app.ctl'],
  {
    stdio: ['ignore', 'pipe', 'inherit'],
  },
);
const exited = once(server, 'exit');
let url;
for await (const line of createInterface(server.stdout)) {
  const { event, listen } = JSON.parse(line);
  if (event === 'listening') url = listen[0].replace('tcp:', 'http:');
  if (event === 'ready') break;
}
server.stdout.resume();
assert.match(await (await fetch(url)).text(), /^served by \d+$/);
const ctl = (...args) =>
  execFileSync(command, ['ctl', '--control', 'app.ctl', ...args], { encoding: 'utf8' });
assert.equal(JSON.parse(ctl('status', '--json')).ready, 2);
ctl('reload');
assert.equal(JSON.parse(ctl('status', '--json')).generation, 2);
ctl('stop');
assert.deepEqual(await exited, [0, null]);
console.log('serve: stopped');
