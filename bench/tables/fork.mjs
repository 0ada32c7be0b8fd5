// Forks: from asking for a child to its first line of code, and how long the parent stands still; with a small heap and
// a large one.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { compiled, Missing, result, script } from '../session.mjs';

const C = 'C fork';
const PYTHON = 'Python os.fork';
const OURS = 'forkbeard fork';
const LATE = 'forkbeard fork, asked late';
const SYNC = 'forkbeard forkSync';
const NODE = 'child_process.fork';
/** A parent and its child run beside each other. */
const CORES = '0,1';
/** Filling a gigabyte with objects takes longer than all the forks of it: more of them would make the table last. */
const SIZES = [50, 150, 1000];

const at = (name, megabytes) => `${name}, ${megabytes} MB`;

export function tables({ smoke }) {
  const sizes = smoke ? [150] : SIZES;
  const count = smoke ? 3 : 50;
  const peer = (name, command) => ({
    name,
    async prepare() {
      const prepared = command();
      return () => result(prepared, CORES);
    },
  });
  const python = (megabytes) => {
    if (spawnSync('python3', ['--version']).error !== undefined) throw new Missing('there is no python3');
    const program = fileURLToPath(new URL('../peers/fork-python.py', import.meta.url));
    return ['python3', program, String(count), String(megabytes)];
  };
  const node = (name, megabytes, ...how) => {
    const [file, ...args] = script(name, count, megabytes, ...how);
    return [file, '--max-old-space-size=8000', ...args];
  };
  return [
    {
      name: 'fork',
      title: 'Fork',
      what:
        `${count} children, one after the other, each telling when its first line runs. The memory is that of the whole ` +
        'process: one block in C, blocks of 1 MB in Python, objects of JavaScript in the rest. V8 puts these side by side, which is cheaper to fork, once somebody has ' +
        'asked for forks: before they are made, or late, after it. "blocks" is how long the ' +
        'parent does nothing else; for fork it includes the child’s word that it lives.',
      repetitions: 3,
      peers: sizes.flatMap((megabytes) => [
        peer(at(C, megabytes), () => [compiled('fork-c'), String(count), String(megabytes)]),
        peer(at(PYTHON, megabytes), () => python(megabytes)),
        peer(at(OURS, megabytes), () => node('fork-forkbeard', megabytes)),
        peer(at(LATE, megabytes), () => node('fork-forkbeard', megabytes, 'late')),
        peer(at(SYNC, megabytes), () => node('fork-sync-forkbeard', megabytes)),
        ...(megabytes <= 150 ? [peer(at(NODE, megabytes), () => node('fork-node', megabytes))] : []),
      ]),
      columns: [
        { title: 'first line ms', key: 'first', digits: 2 },
        { title: 'p99 ms', key: 'tail', digits: 2 },
        { title: 'blocks ms', key: 'blocked', digits: 2 },
        { title: 'call() ms', key: 'call', digits: 2 },
      ],
      bars: [
        {
          peer: at(OURS, 150),
          what: 'first line × C',
          key: 'first',
          of: at(C, 150),
          digits: 2,
          atMost: 2,
          aim: { atMost: 1.5 },
        },
        ...(smoke
          ? []
          : [
              {
                peer: at(OURS, 1000),
                what: 'first line × C',
                key: 'first',
                of: at(C, 1000),
                digits: 2,
                aim: { atMost: 2 },
              },
              { peer: at(OURS, 50), what: 'call() ms', key: 'call', digits: 2, atMost: 15 },
            ]),
      ],
    },
  ];
}
