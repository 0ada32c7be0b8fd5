// Run by scripts/check-package.mjs in a project that has only the packed tarball: readiness of a pipe, by `import`.
import assert from 'node:assert/strict';
import { Loop, sys } from 'forkbeard';

const loop = Loop.current();
const [readEnd, writeEnd] = sys.pipe();
const message = Buffer.alloc(16);
const got = await new Promise((resolve) => {
  const watcher = loop.watchIo(readEnd, {
    onReadReady: () => {
      const length = sys.read(readEnd, message);
      watcher.stop();
      resolve(message.toString('latin1', 0, length));
    },
  });
  sys.write(writeEnd, Buffer.from('ready'));
});
assert.equal(got, 'ready');
sys.close(readEnd);
sys.close(writeEnd);
const before = performance.now();
await loop.delay(5);
assert.ok(performance.now() - before >= 5);
assert.ok(Loop.backends.includes(loop.backend));
console.log(`import: ${loop.backend}`);
