// The supervisor: how long a crash lasts, what its shim costs, and whether nothing is left and nothing is there twice.
// Against s6-supervise and runsv, which are one process a service as our shim is, and written in C.
import { result, script, tool } from '../session.mjs';

const OURS = 'forkbeard';
const S6 = 's6-supervise';
const RUNSV = 'runsv';
/** Supervisors, shims and services run beside each other. */
const CORES = '0,1';
/** ms. runsv waits a second after a service that did not live for one; ours is measured the same way, and without it. */
const LIFE = 1100;

const one = (name, ...command) => ({
  name,
  prepare: async () => () => result(script(...command), CORES),
});

export function tables({ smoke }) {
  const crashes = smoke ? 3 : 50;
  const few = smoke ? 1 : 3;
  const starts = smoke ? 3 : 30;
  const services = smoke ? 10 : 100;
  const starters = 10;
  const rounds = smoke ? 3 : 100;
  const peer = (program, from) => ({
    name: program,
    async prepare() {
      tool(program, from);
      return () => result(script('supervisor-run', program, few, LIFE), CORES);
    },
  });
  const resting = `${OURS}, at rest`;
  return [
    {
      name: 'supervisor',
      title: 'A service that crashes',
      what:
        `A service is killed, and says so in a fifo when its program runs again: ${crashes} times one right after the other, and ` +
        `(“at rest”, and the others) ${few} times after a life of ${LIFE} ms, because runsv lets a second pass ` +
        'after a shorter one. Memory is that of the process that keeps the service: our shim, s6-supervise, runsv.',
      repetitions: 3,
      peers: [
        one(OURS, 'supervisor-forkbeard', crashes, 0),
        one(resting, 'supervisor-forkbeard', few, LIFE),
        peer(S6, 's6'),
        peer(RUNSV, 'runit'),
      ],
      columns: [
        { title: 'gone ms (p50)', key: 'median', digits: 1 },
        { title: 'p99', key: 'p99', digits: 1 },
        { title: 'RSS MB', key: 'rss', digits: 2 },
        { title: 'PSS MB', key: 'pss', digits: 2 },
      ],
      bars: [
        { peer: OURS, what: 'gone ms (p50)', key: 'median', digits: 1, atMost: 50 },
        { peer: OURS, what: 'gone ms (p99)', key: 'p99', digits: 1, atMost: 50 },
        { peer: OURS, what: 'PSS MB of the shim', key: 'pss', digits: 2, atMost: 2 },
      ],
    },
    {
      name: 'supervisor-start',
      title: 'A start with a shim',
      what:
        `Until the first words of the program: started by a supervisor (gates, lock, record, shim), and by loop.spawn, ` +
        `by turns, ${starts} times.`,
      repetitions: 3,
      peers: [one(OURS, 'supervisor-start', starts)],
      columns: [
        { title: 'supervisor ms', key: 'shim', digits: 2 },
        { title: 'loop.spawn ms', key: 'plain', digits: 2 },
        { title: 'more ms', key: 'more', digits: 2 },
      ],
      bars: [{ peer: OURS, what: 'more ms', key: 'more', digits: 2, atMost: 5 }],
    },
    {
      name: 'supervisor-killed',
      title: 'A supervisor that is killed',
      what: `SIGKILL to the supervisor of ${services} coupled services, until the last process of them all is gone, shims included.`,
      repetitions: 3,
      peers: [one(OURS, 'supervisor-many', services)],
      columns: [
        { title: 'all started ms', key: 'started', digits: 0 },
        { title: 'all gone ms', key: 'gone', digits: 0 },
      ],
      bars: [{ peer: OURS, what: 'all gone ms', key: 'gone', digits: 0, atMost: 5000 }],
    },
    {
      name: 'supervisor-starters',
      title: 'Starters at once',
      what: `${starters} supervisors with one state directory start the same service at the same moment, ${rounds} times.`,
      repetitions: 1,
      peers: [one(OURS, 'supervisor-starters', starters, rounds)],
      columns: [
        { title: 'instances at most', key: 'instances', digits: 0 },
        { title: 'all have it ms', key: 'median', digits: 1 },
      ],
      bars: [{ peer: OURS, what: 'instances', key: 'instances', digits: 0, atLeast: 1, atMost: 1 }],
    },
  ];
}
