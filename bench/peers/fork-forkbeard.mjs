// Forks with loop.fork, and calls with loop.call. A further argument, `late`: forkbeard hears of it only when the memory
// is full.
import { writeSync } from 'node:fs';
import { Loop, sys } from 'forkbeard';

const loop = Loop.current();
if (process.argv[4] !== 'late') loop.forkSafety();
const { measure, now } = await import('./fork-work.mjs');
const pipe = sys.pipe();
for (const fd of pipe) sys.setNonBlocking(fd, false);
const figures = await measure((fd) => {
  const child = loop.fork({
    code: () => {
      writeSync(fd, String(now()));
      return 0;
    },
  });
  return { started: child.then(() => undefined), ended: child.then(({ exited }) => exited) };
}, pipe);
const calls = [];
for (let i = -2; i < 15; i++) {
  const before = now();
  await loop.call(() => 1);
  if (i >= 0) calls.push(now() - before);
}
console.log(JSON.stringify({ ...figures, call: calls.sort((a, b) => a - b)[calls.length >> 1] }));
