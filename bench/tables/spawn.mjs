// Programs: from spawn to the callback that tells of the end, how long spawn blocks, and how many a second; with a small
// parent and a large one.
import { compiled, npmModule, result, script } from '../session.mjs';

const C = 'C vfork, pidfd';
const NODE = 'child_process';
const OURS = 'forkbeard';
const EXECA = 'execa';
/** A program and its parent run beside each other. */
const CORES = '0,1';
const SMALL = 50;
const LARGE = 1000;

const large = (name) => `${name}, ${LARGE} MB`;

export function tables({ smoke }) {
  const count = smoke ? 20 : 300;
  // Where one takes 50 ms, fewer say as much.
  const few = smoke ? 10 : 40;
  const peer = (name, command) => ({
    name,
    async prepare() {
      const prepared = await command();
      return () => result(prepared, CORES);
    },
  });
  const inC = (megabytes) => [compiled('spawn-vfork'), String(count), String(megabytes)];
  const execa = (times, megabytes) => {
    npmModule('execa');
    return script('spawn-execa', times, megabytes);
  };
  return [
    {
      name: 'spawn',
      title: 'Spawn',
      what:
        `/bin/true is spawned ${count} times (${few} times by ${NODE} and execa with ${LARGE} MB), one after the other, then as ` +
        `often with eight at once (ended a second). The parent holds ${SMALL} or ${LARGE} MB of buffers besides what its runtime needs.`,
      repetitions: 5,
      peers: [
        peer(C, () => inC(SMALL)),
        peer(OURS, () => script('spawn-forkbeard', count, SMALL)),
        peer(NODE, () => script('spawn-node', count, SMALL)),
        peer(EXECA, () => execa(count, SMALL)),
        peer(large(C), () => inC(LARGE)),
        peer(large(OURS), () => script('spawn-forkbeard', count, LARGE)),
        peer(large(NODE), () => script('spawn-node', few, LARGE)),
        peer(large(EXECA), () => execa(few, LARGE)),
      ],
      columns: [
        { title: 'to the callback µs', key: 'latency', digits: 0 },
        { title: '× C', key: 'latency', of: C, digits: 2 },
        { title: 'spawn blocks µs', key: 'blocked', digits: 0 },
        { title: 'ended/s', key: 'rate', digits: 0 },
        { title: '× child_process', key: 'rate', of: NODE, digits: 2 },
      ],
      bars: [
        { peer: OURS, what: 'latency × C', key: 'latency', of: C, digits: 2, atMost: 1.4 },
        { peer: OURS, what: 'ended/s × child_process', key: 'rate', of: NODE, digits: 2, atLeast: 3 },
        { peer: OURS, what: 'spawn blocks µs', key: 'blocked', digits: 0, atMost: 100 },
        {
          peer: large(OURS),
          what: `latency × ${SMALL} MB`,
          key: 'latency',
          of: OURS,
          digits: 2,
          atLeast: 0.8,
          atMost: 1.2,
        },
      ],
    },
  ];
}
