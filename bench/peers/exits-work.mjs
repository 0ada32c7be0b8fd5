// From the end of one child to the callback, among many, on the JavaScript peers; exits-pidfd.c says how. A peer
// supplies `start(ended)`, which returns the pid.
const [live, ending] = process.argv.slice(2, 4).map(Number);

export async function measure(start) {
  const ended = new Map();
  const pids = [];
  for (let i = 0; i < live; i++) pids.push(start((pid) => ended.get(pid)?.()));
  const times = [];
  for (const pid of pids.slice(0, ending)) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    await new Promise((resolve) => {
      ended.set(pid, () => {
        times.push((performance.now() - before) * 1e3);
        resolve();
      });
      const before = performance.now();
      process.kill(pid, 'SIGKILL');
    });
  }
  await Promise.all(
    pids.slice(ending).map(
      (pid) =>
        new Promise((resolve) => {
          ended.set(pid, resolve);
          process.kill(pid, 'SIGKILL');
        }),
    ),
  );
  times.sort((a, b) => a - b);
  console.log(JSON.stringify({ latency: times[times.length >> 1] }));
}
