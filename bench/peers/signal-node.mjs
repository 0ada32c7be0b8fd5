// Tells, for each SIGUSR2, when `process.on`'s listener ran.
import { writeSync } from 'node:fs';

const called = new BigInt64Array(1);

process.on('SIGUSR2', () => {
  called[0] = process.hrtime.bigint();
  writeSync(1, called);
});
setInterval(() => {}, 2 ** 30);
writeSync(1, 'ready\n');
