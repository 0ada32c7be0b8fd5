// As esm.mjs, by `require()`, blocking: the loop waits in its backend and Node's own loop rests.
const assert = require('node:assert/strict');
const { Loop, sys } = require('forkbeard');

const loop = new Loop({ backend: 'poll' });
const [readEnd, writeEnd] = sys.pipe();
let calls = 0;
loop.watchIo(readEnd, { onReadReady: () => calls++ });
sys.write(writeEnd, Buffer.from('x'));
assert.equal(loop.runOnce(1000), 1);
assert.equal(calls, 1);
loop.close();
sys.close(readEnd);
sys.close(writeEnd);
console.log('require: poll');
