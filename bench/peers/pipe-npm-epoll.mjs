// The pipe benchmark on the npm package `epoll`, which lives in npm/, with the synchronous calls of node:fs.
import { readSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { idleEnds, indexOf, measure, passOn, readEnds, writeEnds } from './pipe-work.mjs';

const { Epoll } = createRequire(new URL('./npm/package.json', import.meta.url))('epoll');
const byte = Buffer.from('e');
const received = Buffer.alloc(1);
const send = (index) => writeSync(writeEnds[index], byte);
let over;

const poller = new Epoll((error, fd) => {
  if (error) throw error;
  readSync(fd, received);
  if (passOn(indexOf[fd], send)) over();
});
for (const fd of [...idleEnds, ...readEnds]) poller.add(fd, Epoll.EPOLLIN);
await measure(
  send,
  () =>
    new Promise((resolve) => {
      over = resolve;
    }),
);
poller.close();
