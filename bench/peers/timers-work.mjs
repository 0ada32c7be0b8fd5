// The work of the timer benchmark for the JavaScript peers; timers.h says what it is. A peer supplies `add(index, ms)`,
// `cancel(index)` and `fire()`, which resolves (or returns) when `fired()` has been called `expected` times.
const timers = Number(process.argv[2]);

function cpu() {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

function delaysOf(count) {
  const delays = new Uint16Array(count);
  let random = 1;
  for (let i = 0; i < count; i++) {
    random = (Math.imul(random, 1103515245) + 12345) & 0x7fffffff;
    delays[i] = 1 + ((random >>> 8) % 1000);
  }
  return delays;
}

async function once(count, { add, cancel, fire }) {
  const delays = delaysOf(count);
  const start = cpu();
  for (let i = 0; i < count; i++) add(i, delays[i]);
  const added = cpu();
  for (let i = 1; i < count; i += 2) cancel(i);
  const cancelled = cpu();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1010);
  const due = cpu();
  await fire(count / 2);
  return { add: added - start, cancel: cancelled - added, fire: cpu() - due };
}

/** One small run to warm up, then the one that counts. */
export async function measure(peer) {
  await once(Math.min(timers, 100_000), peer);
  console.log(JSON.stringify(await once(timers, peer)));
}
