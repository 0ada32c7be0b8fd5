// Only a Worker loads the package, and it is gone before the process ends: nothing that the binary has registered may
// be called then.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

const [code] = await once(new Worker(new URL('esm.mjs', import.meta.url)), 'exit');
process.exitCode = code;
