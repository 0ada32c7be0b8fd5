// The pipe benchmark on node:net: a Socket at both ends of each pair.
import { Socket } from 'node:net';
import { idleEnds, measure, passOn, readEnds, writeEnds } from './pipe-work.mjs';

const writers = writeEnds.map((fd) => new Socket({ fd }));
const byte = Buffer.from('e');
const send = (index) => writers[index].write(byte);
let over;

function watch(fd, index) {
  new Socket({ fd }).on('data', (bytes) => {
    // Node reads all that is there; the others read a byte an event.
    for (let i = 0; i < bytes.length; i++) if (passOn(index, send)) over();
  });
}

idleEnds.forEach((fd) => {
  watch(fd, -1);
});
readEnds.forEach(watch);
await measure(
  send,
  () =>
    new Promise((resolve) => {
      over = resolve;
    }),
);
process.exit();
