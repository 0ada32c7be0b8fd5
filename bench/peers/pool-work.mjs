// Work for V8's background threads, timed: garbage of all ages for the collectors, and functions that are new every
// time for the compilers. Argument: rounds. Used by the pool peers.
const rounds = Number(process.argv[2]);

/** Trees that live for a while, beside garbage that dies at once. */
function collect(kept, round) {
  for (let i = 0; i < 40_000; i++) {
    const leaf = { i, text: `${round}:${i}`, list: [i, round, i * 2] };
    if (i % 4 === 0) kept.push({ leaf, next: kept.at(-1) ?? null });
  }
  if (kept.length > 400_000)
    kept.splice(0, 200_000).forEach((node) => {
      node.next = null;
    });
}

/** Code that V8 has not seen, run until it is worth optimising. */
function compile(round) {
  let sum = 0;
  for (let i = 0; i < 20; i++) {
    const source = `let s = 0; for (let i = 0; i < n; i++) { s += (i * ${round + i + 1}) % ${i + 7}; if (s > 1e9) s -= ${round}; } return s;`;
    sum += new Function('n', source)(60_000);
  }
  return sum;
}

export function measure() {
  const kept = [];
  let sum = 0;
  const turn = (round) => {
    collect(kept, round);
    sum += compile(round);
  };
  for (let round = 0; round < 3; round++) turn(round);
  const before = performance.now();
  const used = process.cpuUsage();
  for (let round = 0; round < rounds; round++) turn(round + 3);
  const wall = performance.now() - before;
  const { user, system } = process.cpuUsage(used);
  console.log(JSON.stringify({ wall, cpu: (user + system) / 1e3, sum, kept: kept.length }));
}
