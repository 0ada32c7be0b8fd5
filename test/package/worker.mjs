// As esm.mjs, in a Worker and in the main thread at once.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

const worker = new Worker(new URL('esm.mjs', import.meta.url));
await import('./esm.mjs');
const [code] = await once(worker, 'exit');
process.exitCode = code;
console.log('worker: done');
