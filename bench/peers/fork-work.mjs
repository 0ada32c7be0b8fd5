// Has children say when their first JavaScript runs, on the JavaScript peers. Arguments of every peer: how many,
// megabytes of memory in all, filled with objects. A peer supplies `start(write end of a pipe)`, which makes a child
// that writes `now()` there, and gives a promise of when it has ended.
import { fstatSync, readSync } from 'node:fs';

const [count, megabytes] = process.argv.slice(2, 4).map(Number);

export const now = () => Number(process.hrtime.bigint()) / 1e6;

const ballast = [];
while (process.memoryUsage.rss() < megabytes * 2 ** 20) {
  for (let i = 0; i < 10_000; i++) ballast.push({ i, list: [i, i + 1], deep: { i } });
}

const quantile = (values, part) => values.sort((a, b) => a - b)[Math.floor(values.length * part)];

export async function measure(start, [readEnd, writeEnd]) {
  const first = [];
  const blocked = [];
  fstatSync(readEnd);
  for (let i = -2; i < count; i++) {
    const before = now();
    const child = start(writeEnd);
    const started = await child.started;
    const after = started ?? now();
    await child.ended;
    const buffer = Buffer.alloc(40);
    const then = Number(buffer.toString('latin1', 0, readSync(readEnd, buffer)));
    if (i >= 0) {
      first.push(then - before);
      blocked.push(after - before);
    }
  }
  return {
    first: quantile(first, 0.5),
    tail: quantile(first, 0.99),
    blocked: quantile(blocked, 0.5),
    ballast: ballast.length,
  };
}
