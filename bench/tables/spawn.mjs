// Programs: from spawn to the callback that tells of the end, how long spawn blocks, and how many a second; with a small
// parent and a large one.
import { compiled, npmModule, result, script } from '../session.mjs';

const C = 'C vfork, pidfd';
const NODE = 'child_process';
const OURS = 'forkbeard';
/** A program and its parent run beside each other. */
const CORES = '0,1';

export function tables({ smoke }) {
  const table = (megabytes, count, name, title, bars) => {
    const peer = (peerName, command) => ({
      name: peerName,
      async prepare() {
        const prepared = await command();
        return () => result(prepared, CORES);
      },
    });
    const js = (module) => script(module, count, megabytes);
    return {
      name,
      title,
      what:
        `/bin/true is spawned ${count} times, one after the other, then ${count} times with eight at once (ended a second), by a ` +
        `parent that holds ${megabytes} MB of buffers besides what its runtime needs.`,
      repetitions: 5,
      peers: [
        peer(C, () => [compiled('spawn-vfork'), String(count), String(megabytes)]),
        peer(OURS, () => js('spawn-forkbeard')),
        peer(NODE, () => js('spawn-node')),
        peer('execa', () => {
          npmModule('execa');
          return js('spawn-execa');
        }),
      ],
      columns: [
        { title: 'to the callback µs', key: 'latency', digits: 0 },
        { title: '× C', key: 'latency', of: C, digits: 2 },
        { title: 'spawn blocks µs', key: 'blocked', digits: 0 },
        { title: 'ended/s', key: 'rate', digits: 0 },
        { title: '× child_process', key: 'rate', of: NODE, digits: 2 },
      ],
      bars,
    };
  };
  const latency = { peer: OURS, what: 'latency × C', key: 'latency', of: C, digits: 2, atMost: 1.4 };
  return [
    table(50, smoke ? 20 : 300, 'spawn', 'Spawn', [
      latency,
      { peer: OURS, what: 'ended/s × child_process', key: 'rate', of: NODE, digits: 2, atLeast: 3 },
      { peer: OURS, what: 'spawn blocks µs', key: 'blocked', digits: 0, atMost: 100 },
    ]),
    table(1000, smoke ? 10 : 50, 'spawn-large', 'Spawn, parent with 1 GB', [
      latency,
      { peer: OURS, what: 'spawn blocks µs', key: 'blocked', digits: 0, atMost: 100 },
    ]),
  ];
}
