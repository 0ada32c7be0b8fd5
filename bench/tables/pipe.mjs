// libevent's pipe benchmark, and how its peers are run; tables/idle.mjs runs some of them with idle descriptors beside.

import { median } from '../figures.mjs';
import { compiled, needsDescriptors, npmPackage, result, script } from '../session.mjs';

const PAIRS = 1000;
const ACTIVE = 100;
const WRITES = 100_000;

/** One program run; the sample is the median of its rounds, in nanoseconds a byte that is read and passed on. */
async function round(command, { smoke, idle = 0, warmups = 2, rounds = 5, writes = WRITES }) {
  const count = smoke ? 2000 : writes;
  const sizes = [PAIRS, ACTIVE, count, idle, smoke ? 1 : warmups, smoke ? 1 : rounds].map(String);
  const [program, ...args] = command;
  // The sizes stand before a peer's own options; an interpreter's first argument is its script.
  const script = program === process.execPath ? [args.shift()] : [];
  const { wall, cpu } = await result([program, ...script, ...sizes, ...args]);
  const per = (values) => median(values) / (count + ACTIVE);
  return { wall: per(wall), cpu: per(cpu) };
}

export const C_EPOLL = { name: 'C epoll', command: () => [compiled('pipe-epoll')] };

export function forkbeard(mode, drain) {
  return {
    name: `forkbeard ${mode}, drain '${drain}'`,
    command: () => script('pipe-forkbeard', mode, drain),
  };
}

/** A peer of a table: `options` are those of a round. */
export function peer({ name, command }, options) {
  return {
    name,
    prepare() {
      needsDescriptors(2 * PAIRS + (options.idle ?? 0) + 100);
      const prepared = command();
      return () => round(prepared, options);
    },
  };
}

export function tables({ smoke }) {
  const usual = { smoke };
  // Fewer writes, for a peer that takes ten times as long.
  const slow = { smoke, warmups: 1, rounds: 2, writes: WRITES / 5 };
  const bar = (mode, drain, atMost, aim) => ({
    peer: `forkbeard ${mode}, drain '${drain}'`,
    what: '× C epoll',
    key: 'wall',
    of: 'C epoll',
    digits: 2,
    atMost,
    aim: { atMost: aim },
  });
  return [
    {
      name: 'pipe',
      title: "libevent's pipe benchmark",
      what:
        `${PAIRS} socket pairs, their read ends watched; ${ACTIVE} bytes are sent, and each byte that is read is passed on to the next ` +
        `pair, ${WRITES} times in all. Every peer makes the same system calls for it (\`node:net\` reads more at once where there is more).`,
      repetitions: 7,
      peers: [
        peer(C_EPOLL, usual),
        peer({ name: 'libev', command: () => [compiled('pipe-libev', 'ev')] }, usual),
        peer({ name: 'libuv', command: () => [compiled('pipe-libuv', 'uv')] }, usual),
        peer({ name: 'libevent', command: () => [compiled('pipe-libevent', 'event')] }, usual),
        peer(forkbeard('blocking', 'batch'), usual),
        peer(forkbeard('blocking', 'handler'), usual),
        peer(forkbeard('integrated', 'batch'), usual),
        peer(forkbeard('integrated', 'handler'), usual),
        peer({ name: 'node:net', command: () => script('pipe-net') }, usual),
        peer(
          {
            name: 'npm epoll',
            command() {
              npmPackage('epoll');
              return script('pipe-npm-epoll');
            },
          },
          slow,
        ),
      ],
      columns: [
        { title: 'ns a byte', key: 'wall', digits: 0 },
        { title: '× C epoll', key: 'wall', of: 'C epoll', digits: 2 },
        { title: 'CPU ns a byte', key: 'cpu', digits: 0 },
        { title: 'CPU × C epoll', key: 'cpu', of: 'C epoll', digits: 2 },
      ],
      bars: [
        bar('blocking', 'batch', 1.25, 1.15),
        bar('blocking', 'handler', 1.4, 1.25),
        bar('integrated', 'batch', 1.35, 1.2),
        bar('integrated', 'handler', 1.45, 1.3),
      ],
    },
  ];
}
