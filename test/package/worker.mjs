// As esm.mjs, in a Worker and in the main thread at once.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

const worker = new Worker(new URL('esm.mjs', import.meta.url));
const exited = once(worker, 'exit');
await import('./esm.mjs');
const [code] = await exited;
process.exitCode = code;
console.log('worker: done');
