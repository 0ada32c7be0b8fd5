// Tells, for each SIGUSR2, when forkbeard's callback ran: … blocking|integrated
import { writeSync } from 'node:fs';
import { Loop } from 'forkbeard';

const loop = new Loop();
const called = new BigInt64Array(1);

loop.watchSignal('USR2', () => {
  called[0] = process.hrtime.bigint();
  writeSync(1, called);
});
writeSync(1, 'ready\n');
if (process.argv[2] === 'blocking') loop.runSync();
