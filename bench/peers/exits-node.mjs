// Exits as node:child_process tells them.
import { spawn } from 'node:child_process';
import { measure } from './exits-work.mjs';

await measure((ended) => {
  const child = spawn('/bin/sleep', ['1000'], { stdio: 'inherit' });
  child.once('exit', () => ended(child.pid));
  return child.pid;
});
