// Hello-world over HTTP/1.1 with kept connections, the load made by wrk.
import { CLIENT, compiled, output, script, tool, withServer } from '../session.mjs';
import { C_EPOLL, COLUMNS, RAW, servers } from './servers.mjs';

const CONNECTIONS = 64;
const NODE_HTTP = 'node:http';

export function tables({ smoke }) {
  const [warmup, duration] = smoke ? [1, 1] : [1, 3];
  const load = () => {
    const wrk = tool('wrk', 'wrk');
    const clock = compiled('cpu-clock');
    const run = (port, seconds) =>
      output(
        [wrk, '-t', '1', '-c', `${CONNECTIONS}`, '-d', `${seconds}`, `http://127.0.0.1:${port}/`],
        CLIENT,
      );
    return (server) =>
      withServer(server, async ({ port, pid }) => {
        const cpu = async () => Number(await output([clock, String(pid)], CLIENT));
        await run(port, warmup);
        const before = await cpu();
        const report = await run(port, duration);
        const after = await cpu();
        if (/Socket errors|Non-2xx/.test(report)) throw new Error(`wrk saw errors:\n${report}`);
        const requests = Number(/(\d+) requests in/.exec(report)[1]);
        const throughput = Number(/Requests\/sec:\s*([\d.]+)/.exec(report)[1]);
        return { throughput, cpu: (after - before) / 1e3 / requests };
      });
  };
  const others = [
    { name: 'node:net', command: () => script('http-net') },
    { name: NODE_HTTP, command: () => script('http-node') },
  ];
  return [
    {
      name: 'http',
      title: `Hello-world HTTP, ${CONNECTIONS} connections`,
      what:
        'wrk, one thread, keep-alive. The raw servers look for the end of a request, byte by byte, and write one fixed response; ' +
        '`node:http` parses requests and adds headers. CPU: the server’s whole process.',
      repetitions: 7,
      peers: servers('http', others, load),
      columns: COLUMNS,
      bars: RAW.flatMap((peer) => [
        {
          peer,
          what: 'CPU a request × C epoll',
          key: 'cpu',
          of: C_EPOLL,
          digits: 2,
          atMost: 1.2,
          aim: { atMost: 1.1 },
        },
        { peer, what: 'CPU a request × node:http', key: 'cpu', of: NODE_HTTP, digits: 2, atMost: 0.4 },
      ]),
    },
  ];
}
