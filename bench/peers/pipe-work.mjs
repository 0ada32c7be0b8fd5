// The work of libevent's pipe benchmark for the JavaScript peers; pipe.h says what it is. A peer supplies how a byte is
// read and written, and its loop. The descriptors are made with `sys` for all of them: that is not measured.
import { sys } from 'forkbeard';

const [pairs, active, writes, idle, warmups, rounds] = process.argv.slice(2, 8).map(Number);

export const readEnds = [];
export const writeEnds = [];
export const idleEnds = [];
for (let i = 0; i < pairs; i++) {
  const [readEnd, writeEnd] = sys.socketpair();
  readEnds.push(readEnd);
  writeEnds.push(writeEnd);
}
for (let i = 0; i < idle; i += 2) idleEnds.push(...sys.socketpair());

/** Read ends by descriptor, for loops that name descriptors. */
export const indexOf = new Int32Array(Math.max(...readEnds) + 1);
readEnds.forEach((fd, index) => {
  indexOf[fd] = index;
});

let count = 0;
let fired = 0;
let left = 0;

/** To be called for each byte that was read from pair `index`; true when everything that was written has been read. */
export function passOn(index, send) {
  count++;
  if (left > 0) {
    left--;
    fired++;
    send(index + 1 === pairs ? 0 : index + 1);
  }
  return count === fired;
}

/** Runs every round with `run`, which is over when `passOn` said true, and prints the times of the measured ones. */
export async function measure(send, run) {
  const times = { wall: [], cpu: [] };
  for (let round = -warmups; round < rounds; round++) {
    count = 0;
    fired = active;
    left = writes;
    for (let i = 0; i < active; i++) send(i * Math.floor(pairs / active));
    const cpuStart = process.cpuUsage();
    const start = process.hrtime.bigint();
    // A blocking loop is over when it returns: no tick of Node's between two of its rounds is counted.
    const running = run();
    if (running !== undefined) await running;
    const wall = Number(process.hrtime.bigint() - start);
    const { user, system } = process.cpuUsage(cpuStart);
    if (count !== active + writes) throw new Error('a round ended early');
    if (round < 0) continue;
    times.wall.push(wall);
    times.cpu.push((user + system) * 1000);
  }
  console.log(JSON.stringify(times));
}
