// Crashes of a service of s6-supervise's or runsv's, which both run the program `run` of a folder.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { finish, folder, measure, service } from './supervisor-work.mjs';

const [program, ...numbers] = process.argv.slice(2);
const [count, pause] = numbers.map(Number);
const place = join(folder, 'place');
mkdirSync(place);
symlinkSync(service, join(place, 'run'));
let supervisor;
await measure(
  () => {
    supervisor = spawn(program, [place], { stdio: 'ignore' });
  },
  count,
  pause,
);
// s6-supervise brings its service down and ends at TERM, and so does runsv.
const ended = once(supervisor, 'exit');
supervisor.kill('SIGTERM');
await ended;
finish();
