// Workers of an HTTP application: how long until each has answered, and what each has for itself in memory.
import { npmModule, result, script } from '../session.mjs';
import { barsOfWorkers, CLUSTER, columnsOfWorkers } from '../workers-compared.mjs';

const OURS = 'forkbeard fork';
/** The workers and their parent run beside each other. */
const CORES = '0,1';
const WORKERS = 8;

export function tables({ smoke }) {
  const workers = smoke ? 2 : WORKERS;
  const requests = smoke ? 5 : 500;
  const peer = (name, program, flags = []) => ({
    name,
    async prepare() {
      npmModule('fastify');
      const [file, ...args] = script(program, workers, requests);
      return () => result([file, ...flags, ...args], CORES);
    },
  });
  return [
    {
      name: 'workers',
      title: 'Workers of an HTTP application',
      what:
        `${workers} workers of an application that has express, fastify and typescript loaded, from their start until each has ` +
        'answered one request (ready), and after each has answered ' +
        `${requests} (served). For forkbeard the mold, which has loaded the application and has answered ${requests} requests, is there ` +
        'before; the others’ parent has nothing to load. Memory is the mean of the workers, without their parent: USS is ' +
        'what only that process has, PSS counts what is shared by parts; all together is the PSS of those that ' +
        'have served and of their parent. Threads have one process together, which is divided.',
      repetitions: 5,
      peers: [
        peer(OURS, 'workers-forkbeard', ['--expose-gc']),
        peer(CLUSTER, 'workers-cluster'),
        peer('child_process.fork', 'workers-child-process'),
        peer('worker_threads', 'workers-threads'),
      ],
      columns: columnsOfWorkers,
      bars: barsOfWorkers(OURS, OURS),
    },
  ];
}
