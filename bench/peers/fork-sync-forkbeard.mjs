// Forks with loop.forkSync.
import { writeSync } from 'node:fs';
import { Loop, sys } from 'forkbeard';

const loop = Loop.current();
loop.forkSafety();
const { measure, now } = await import('./fork-work.mjs');
const pipe = sys.pipe();
for (const fd of pipe) sys.setNonBlocking(fd, false);
const figures = await measure((fd) => {
  const child = loop.forkSync({
    code: () => {
      writeSync(fd, String(now()));
    },
  });
  return { started: now(), ended: child.exited };
}, pipe);
console.log(JSON.stringify(figures));
