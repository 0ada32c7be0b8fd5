// What idle descriptors cost: the pipe benchmark with none and with many of them beside.
import { C_EPOLL, forkbeard, peer } from './pipe.mjs';

const IDLE = 15_000;
const COUNTS = [0, IDLE];

const nameWith = (name, idle) => `${name}, ${idle === 0 ? 'none' : IDLE} idle`;

export function tables({ smoke }) {
  const loops = [C_EPOLL, forkbeard('blocking', 'batch'), forkbeard('integrated', 'handler')];
  return [
    {
      name: 'idle',
      title: 'Idle descriptors',
      what: `The pipe benchmark again, with ${IDLE} more descriptors watched on which nothing happens.`,
      repetitions: 7,
      peers: loops.flatMap(({ name, command }) =>
        COUNTS.map((idle) => peer({ name: nameWith(name, idle), command }, { smoke, idle, rounds: 4 })),
      ),
      columns: [
        { title: 'ns a byte', key: 'wall', digits: 0 },
        { title: '× C epoll, none idle', key: 'wall', of: nameWith(C_EPOLL.name, 0), digits: 2 },
      ],
      bars: loops.slice(1).map(({ name }) => ({
        peer: nameWith(name, IDLE),
        what: '× with none idle',
        key: 'wall',
        of: nameWith(name, 0),
        digits: 2,
        atLeast: 0.9,
        atMost: 1.1,
      })),
    },
  ];
}
