// The prefork server against node:cluster and PM2: workers of an application until each has answered, what they have for
// themselves in memory, and hello world by two of them.
import { npmModule, result, script, tool } from '../session.mjs';
import { barsOfWorkers, CLUSTER, columnsOfWorkers } from '../workers-compared.mjs';

const LOADED = 'forkbeard serve';
const WARM = 'forkbeard serve, reforked';
const PM2 = 'PM2';
/** Servers, their workers and wrk run beside each other. */
const CORES = '0,1';
const WORKERS = 8;

export function tables({ smoke }) {
  const workers = smoke ? 2 : WORKERS;
  const requests = smoke ? 5 : 500;
  const seconds = smoke ? 1 : 5;
  const peer = (name, packages, ...command) => ({
    name,
    async prepare() {
      for (const each of packages) npmModule(each);
      return () => result(script(...command), CORES);
    },
  });
  const load = (name, kind) => ({
    name,
    async prepare() {
      tool('wrk', 'wrk');
      if (kind === 'pm2') npmModule('pm2');
      return () => result(script('prefork-load', kind, seconds), CORES);
    },
  });
  return [
    {
      name: 'prefork',
      title: 'Workers of a prefork server',
      what:
        `${workers} workers of an application that has express, fastify and typescript loaded, from the order until each has ` +
        `answered one request, and after each has answered ${requests}. forkbeard’s mold and PM2’s daemon are there before; ` +
        '“reforked”: the mold was made of a worker that had answered as many. Memory is the mean of the workers: USS is what ' +
        'only that process has, PSS counts what is shared by parts. All together: the PSS of the workers that have served and ' +
        'of what stands above them (monitor and mold, cluster’s first process, PM2’s daemon).',
      repetitions: 5,
      peers: [
        peer(LOADED, ['fastify'], 'prefork-forkbeard', workers, requests, 'loaded'),
        peer(WARM, ['fastify'], 'prefork-forkbeard', workers, requests, 'warm'),
        peer(CLUSTER, ['fastify'], 'workers-cluster', workers, requests),
        peer(PM2, ['fastify', 'pm2'], 'prefork-pm2', workers, requests),
      ],
      columns: columnsOfWorkers,
      bars: barsOfWorkers(LOADED, WARM),
    },
    {
      name: 'prefork-http',
      title: 'Hello world by two workers',
      what:
        'wrk, one thread, 64 kept connections, on the same two cores as the workers. Skew: requests answered by the busier ' +
        'worker over those of the other.',
      repetitions: 5,
      peers: [load(LOADED, 'forkbeard'), load(CLUSTER, 'cluster'), load(PM2, 'pm2')],
      columns: [
        { title: 'requests/s', key: 'throughput', digits: 0 },
        { title: '× cluster', key: 'throughput', of: CLUSTER, digits: 2 },
        { title: '× PM2', key: 'throughput', of: PM2, digits: 2 },
        { title: 'skew', key: 'skew', digits: 2 },
      ],
      bars: [
        { peer: LOADED, what: 'requests × cluster', key: 'throughput', of: CLUSTER, digits: 2, atLeast: 1 },
        { peer: LOADED, what: 'requests × PM2', key: 'throughput', of: PM2, digits: 2, atLeast: 1 },
        { peer: LOADED, what: 'skew', key: 'skew', digits: 2, atMost: 1.5 },
      ],
    },
  ];
}
