// What is said of workers beside those of node:cluster, and the bars: the same for bare forks and for the prefork server.
export const CLUSTER = 'node:cluster';

export const columnsOfWorkers = [
  { title: 'answered ms', key: 'answered', digits: 0 },
  { title: '× cluster', key: 'answered', of: CLUSTER, digits: 3 },
  { title: 'ready: USS MB', key: 'readyUss', digits: 1 },
  { title: 'PSS MB', key: 'readyPss', digits: 1 },
  { title: 'served: USS MB', key: 'servedUss', digits: 1 },
  { title: 'PSS MB', key: 'servedPss', digits: 1 },
  { title: 'all together MB', key: 'together', digits: 0 },
];

/** `fresh`: made of what was just loaded. `warm`: made of what has answered requests before. */
export function barsOfWorkers(fresh, warm) {
  const bar = (peer, what, key, atMost) => ({ peer, what, key, of: CLUSTER, digits: 3, atMost });
  return [
    bar(warm, 'answered × cluster', 'answered', 1 / 20),
    bar(fresh, 'USS ready × cluster', 'readyUss', 1 / 12),
    bar(warm, 'USS served × cluster', 'servedUss', 0.45),
  ];
}
