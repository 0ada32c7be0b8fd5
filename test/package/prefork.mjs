// As esm.mjs: an application served by the door forkbeard/prefork, and options that are refused.
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { prefork } from 'forkbeard/prefork';

await assert.rejects(prefork({ wokers: 2 }), { code: 'ERR_FORKBEARD_UNKNOWN_OPTION', message: /"workers"/ });
const application = fileURLToPath(new URL('app.mjs', import.meta.url));
const server = await prefork({ application, workers: 2, listen: 'tcp://127.0.0.1:0', control: false });
await server.ready;
const { listen, method, ready } = server.status();
assert.equal(ready, 2);
const answer = await (await fetch(listen[0].replace('tcp:', 'http:'))).text();
assert.match(answer, /^served by \d+$/);
assert.notEqual(answer, `served by ${process.pid}`);
assert.equal(await server.stop(), 0);
console.log(`prefork: ${method}`);
