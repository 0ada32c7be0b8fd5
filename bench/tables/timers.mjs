// A million timers: added, half of them cancelled, the rest fired.
import { compiled, result, script } from '../session.mjs';

const NODE = 'Node setTimeout';

export function tables({ smoke }) {
  const timers = smoke ? 10_000 : 1_000_000;
  const peer = (name, command) => ({
    name,
    prepare() {
      const prepared = command();
      return async () => {
        const { add, cancel, fire } = await result(prepared);
        const rate = (operations, nanoseconds) => (operations / nanoseconds) * 1e3;
        return {
          add: rate(timers, add),
          cancel: rate(timers / 2, cancel),
          fire: rate(timers / 2, fire),
          all: rate(timers * 2, add + cancel + fire),
        };
      };
    },
  });
  const modes = ['blocking', 'integrated'];
  const forkbeard = (mode) => `forkbeard ${mode}`;
  return [
    {
      name: 'timers',
      title: 'A million timers',
      what:
        'Timers of 1 to 1000 ms, at random but the same for all: all are added, every other one is cancelled, the process sleeps ' +
        'until the rest are due, and the loop fires them. Millions of operations (adds, cancels, fires: two million) a second of the ' +
        'process’s CPU time, garbage collection included.',
      repetitions: 5,
      peers: [
        peer(NODE, () => script('timers-node', timers)),
        ...modes.map((mode) =>
          peer(forkbeard(mode), () => script('timers-forkbeard', timers, mode, 'handler')),
        ),
        peer('libev', () => [compiled('timers-libev', 'ev'), String(timers)]),
        peer('libuv', () => [compiled('timers-libuv', 'uv'), String(timers)]),
      ],
      columns: [
        { title: 'Mops/s', key: 'all', digits: 1 },
        { title: '× Node', key: 'all', of: NODE, digits: 2 },
        { title: 'add', key: 'add', digits: 1 },
        { title: 'cancel', key: 'cancel', digits: 1 },
        { title: 'fire', key: 'fire', digits: 1 },
      ],
      bars: modes.map((mode) => ({
        peer: forkbeard(mode),
        what: 'Mops/s × Node',
        key: 'all',
        of: NODE,
        digits: 2,
        atLeast: 1.5,
        aim: { atLeast: 2.5 },
      })),
    },
  ];
}
