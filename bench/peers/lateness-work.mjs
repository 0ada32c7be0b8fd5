// How late timers fire on the JavaScript peers; lateness-epoll.c says what a round is. A peer supplies
// `start(ms, callback)`, and `run()`, which is over after `stop()`. A deadline is counted from a reading of the
// monotonic clock right before the timer is started, so a timer that fires before it was early by any clock.
const [timers, warmups, rounds] = process.argv.slice(2, 5).map(Number);
let random = 1;

function nextDelay() {
  random = (Math.imul(random, 1103515245) + 12345) & 0x7fffffff;
  return 1 + ((random >>> 8) % 50);
}

export async function measure({ start, run, stop }) {
  const results = [];
  const lateness = new Float64Array(timers);
  for (let round = -warmups; round < rounds; round++) {
    let fired = 0;
    for (let i = 0; i < timers; i++) {
      const ms = nextDelay();
      const deadline = process.hrtime.bigint() + BigInt(ms) * 1_000_000n;
      start(ms, () => {
        lateness[fired++] = Number(process.hrtime.bigint() - deadline) / 1e3;
        if (fired === timers) stop();
      });
    }
    await run();
    if (round < 0) continue;
    const sorted = lateness.slice().sort();
    results.push({
      early: sorted.filter((late) => late < 0).length,
      median: sorted[timers >> 1],
      p99: sorted[Math.floor((timers * 99) / 100)],
    });
  }
  console.log(JSON.stringify({ rounds: results }));
}
