// From a signal to the callback of an idle loop.
import { ALONE, compiled, Missing, result, script } from '../session.mjs';

const NODE = 'process.on';
const LIBEV = 'libev';

async function watchesSignals() {
  const { Loop } = await import('forkbeard');
  if (typeof Loop.prototype.watchSignal !== 'function') throw new Missing('this version watches no signals');
}

export function tables({ smoke }) {
  const signals = smoke ? 20 : 500;
  const peer = (name, command) => ({
    name,
    async prepare() {
      const prepared = await command();
      const load = compiled('signal-load');
      return () => result([load, String(signals), ...prepared], ALONE);
    },
  });
  const modes = ['blocking', 'integrated'];
  const forkbeard = (mode) => `forkbeard ${mode}`;
  return [
    {
      name: 'signal',
      title: 'Signal to callback',
      what:
        `Another process, on the same core, sends SIGUSR2 to a loop that has been idle for some milliseconds; the time from before ` +
        `its kill(2) to the callback. ${signals} signals.`,
      repetitions: 5,
      peers: [
        peer(LIBEV, () => [compiled('signal-libev', 'ev')]),
        ...modes.map((mode) =>
          peer(forkbeard(mode), async () => {
            await watchesSignals();
            return script('signal-forkbeard', mode);
          }),
        ),
        peer(NODE, () => script('signal-node')),
      ],
      columns: [
        { title: 'median µs', key: 'median', digits: 1 },
        { title: '× process.on', key: 'median', of: NODE, digits: 2 },
        { title: '99 % µs', key: 'p99', digits: 1 },
      ],
      bars: modes.map((mode) => ({
        peer: forkbeard(mode),
        what: '× process.on',
        key: 'median',
        of: NODE,
        digits: 2,
        // Between two that are equal a median wavers by some per cent.
        atMost: 1.05,
      })),
    },
  ];
}
