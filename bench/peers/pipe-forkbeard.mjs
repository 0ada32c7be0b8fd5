// The pipe benchmark on forkbeard: … blocking|integrated batch|handler
import { Loop, sys } from 'forkbeard';
import { idleEnds, indexOf, measure, passOn, readEnds, writeEnds } from './pipe-work.mjs';

const [mode, drain] = process.argv.slice(8);
const loop = new Loop({ drain });
const byte = Buffer.from('e');
const received = Buffer.alloc(1);

function send(index) {
  if (sys.write(writeEnds[index], byte) !== 1) throw new Error('write failed');
}

function onReadReady(fd) {
  if (sys.read(fd, received) !== 1) throw new Error('read failed');
  if (passOn(indexOf[fd], send)) loop.stop();
}

for (const fd of [...idleEnds, ...readEnds]) loop.watchIo(fd, { onReadReady });
await measure(send, mode === 'blocking' ? () => loop.runSync() : () => loop.run());
loop.close();
