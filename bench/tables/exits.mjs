// From the end of a child to the callback, when a thousand live.
import { compiled, result, script } from '../session.mjs';

const C = 'C pidfd, epoll';
const OURS = 'forkbeard';
const CORES = '0,1';

export function tables({ smoke }) {
  const [live, ending] = smoke ? [50, 10] : [1000, 200];
  const peer = (name, command) => ({
    name,
    prepare() {
      const prepared = command();
      return () => result(prepared, CORES);
    },
  });
  return [
    {
      name: 'exits',
      title: 'Exit to callback',
      what:
        `${live} children live; ${ending} of them, one after the other, are killed, and the time is taken from before kill(2) to ` +
        `the callback with the status.`,
      repetitions: 5,
      peers: [
        peer(C, () => [compiled('exits-pidfd'), String(live), String(ending)]),
        peer(OURS, () => script('exits-forkbeard', live, ending)),
        peer('libev', () => [compiled('exits-libev', 'ev'), String(live), String(ending)]),
        peer('child_process', () => script('exits-node', live, ending)),
      ],
      columns: [
        { title: 'median µs', key: 'latency', digits: 0 },
        { title: '× C', key: 'latency', of: C, digits: 2 },
      ],
      bars: [{ peer: OURS, what: 'latency × C', key: 'latency', of: C, digits: 2, atMost: 1.5 }],
    },
  ];
}
