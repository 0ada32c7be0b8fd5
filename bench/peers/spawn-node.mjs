// Spawns with node:child_process.
import { spawn } from 'node:child_process';
import { measure } from './spawn-work.mjs';

await measure((onExit) => spawn('/bin/true', { stdio: 'inherit' }).once('exit', onExit));
