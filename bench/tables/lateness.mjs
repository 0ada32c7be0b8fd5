// How late timers fire, and whether any fires early.
import { median } from '../figures.mjs';
import { compiled, result, script } from '../session.mjs';

const TIMERS = 2000;

export function tables({ smoke }) {
  const [warmups, rounds] = smoke ? [1, 2] : [5, 20];
  const sizes = [TIMERS, warmups, rounds];
  const peer = (name, command) => ({
    name,
    prepare() {
      const prepared = command();
      return async () => {
        const results = (await result(prepared)).rounds;
        return {
          early: (100 * results.reduce((sum, { early }) => sum + early, 0)) / (rounds * TIMERS),
          median: median(results.map((round) => round.median)),
          p99: median(results.map((round) => round.p99)),
        };
      };
    },
  });
  const modes = ['blocking', 'integrated'];
  const forkbeard = (mode) => `forkbeard ${mode}`;
  return [
    {
      name: 'lateness',
      title: 'Lateness of timers',
      what:
        `${TIMERS} timers of 1 to 50 ms, whole milliseconds, are started at once; each one's lateness is what the monotonic clock ` +
        `says in its callback, less its delay and the reading right before it was started. ${rounds} rounds.`,
      repetitions: 5,
      peers: [
        peer('C epoll_pwait2', () => [compiled('lateness-epoll'), ...sizes.map(String)]),
        ...modes.map((mode) => peer(forkbeard(mode), () => script('lateness-forkbeard', ...sizes, mode))),
        peer('Node setTimeout', () => script('lateness-node', ...sizes)),
      ],
      columns: [
        { title: 'early %', key: 'early', digits: 1 },
        { title: 'median µs', key: 'median', digits: 0 },
        { title: '99 % µs', key: 'p99', digits: 0 },
      ],
      bars: modes.flatMap((mode) => [
        { peer: forkbeard(mode), what: 'early %', key: 'early', digits: 1, atMost: 0 },
        {
          peer: forkbeard(mode),
          what: 'median µs',
          key: 'median',
          digits: 0,
          atMost: 150,
          aim: { atMost: 60 },
        },
      ]),
    },
  ];
}
