// What it costs V8 that its background threads are forkbeard's: a program that keeps collectors and compilers busy,
// with Node's threads and with ours.
import { result, script } from '../session.mjs';

const NODES = 'Node’s own threads';
const OURS = 'forkbeard’s threads';
/** V8's threads run beside its program. */
const CORES = '0,1';

export function tables({ smoke }) {
  const rounds = smoke ? 2 : 60;
  const peer = (name, program) => ({
    name,
    async prepare() {
      return () => result(script(program, rounds), CORES);
    },
  });
  const ratio = (key) => ({ key, of: NODES, digits: 3 });
  return [
    {
      name: 'pool',
      title: 'V8 with forkbeard’s threads',
      what: `${rounds} rounds of making garbage of all ages and of compiling and optimising new functions.`,
      repetitions: 15,
      peers: [peer(NODES, 'pool-node'), peer(OURS, 'pool-forkbeard')],
      columns: [
        { title: 'ms', key: 'wall', digits: 0 },
        { title: '× Node’s', ...ratio('wall') },
        { title: 'CPU ms', key: 'cpu', digits: 0 },
        { title: '× Node’s', ...ratio('cpu') },
      ],
      bars: [
        { peer: OURS, what: 'time × Node’s', ...ratio('wall'), atMost: 1.02 },
        { peer: OURS, what: 'CPU × Node’s', ...ratio('cpu'), atMost: 1.02 },
      ],
    },
  ];
}
