// Spawns a program that ends at once, on the JavaScript peers; spawn-vfork.c does the same in C. Arguments of every
// peer: how many, megabytes of ballast. A peer supplies `start(ended)`.
const [count, megabytes] = process.argv.slice(2, 4).map(Number);
const IN_FLIGHT = 8;

const ballast = Array.from({ length: megabytes }, () => Buffer.alloc(1 << 20, 1));

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

export async function measure(start) {
  const blocked = [];
  const latency = [];
  for (let i = -count / 10; i < count; i++) {
    await new Promise((resolve) => {
      const before = performance.now();
      start(() => {
        if (i >= 0) latency.push((performance.now() - before) * 1e3);
        // Not from within the callback: a caller's time between two programs is not the peer's.
        setImmediate(resolve);
      });
      if (i >= 0) blocked.push((performance.now() - before) * 1e3);
    });
  }
  const begin = performance.now();
  await new Promise((resolve) => {
    let started = 0;
    let ended = 0;
    const next = () => {
      started++;
      start(() => {
        ended++;
        if (started < count) next();
        else if (ended === count) resolve();
      });
    };
    while (started < Math.min(IN_FLIGHT, count)) next();
  });
  const rate = (count / (performance.now() - begin)) * 1e3;
  if (ballast.length !== megabytes) throw new Error('the ballast is gone');
  console.log(JSON.stringify({ blocked: median(blocked), latency: median(latency), rate }));
}
