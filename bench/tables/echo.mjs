// TCP echo: one small message at a time on each of many connections, the load made by peers/load.c.
import { CLIENT, compiled, result, script, withServer } from '../session.mjs';
import { C_EPOLL, COLUMNS, RAW, servers } from './servers.mjs';

const SIZE = 64;

function table(connections, smoke) {
  const [warmup, duration] = smoke ? [0.2, 0.3] : [1, 2];
  const load = () => {
    const generator = compiled('load');
    return (server) =>
      withServer(server, async ({ port, pid }) => {
        const args = [port, connections, SIZE, warmup, duration, pid].map(String);
        const { requests, seconds, serverCpu } = await result([generator, ...args], CLIENT);
        return { throughput: requests / seconds, cpu: (serverCpu * 1e6) / requests };
      });
  };
  return {
    name: `echo-${connections}`,
    title: `TCP echo, ${connections} connections`,
    what: `${SIZE} bytes at a time, one message under way on each connection. CPU: the server's whole process.`,
    repetitions: 7,
    peers: servers('echo', [{ name: 'node:net', command: () => script('echo-net') }], load),
    columns: COLUMNS,
    bars: RAW.flatMap((peer) => [
      { peer, what: 'throughput × C epoll', key: 'throughput', of: C_EPOLL, digits: 2, atLeast: 0.92 },
      { peer, what: 'CPU a request × C epoll', key: 'cpu', of: C_EPOLL, digits: 2, aim: { atMost: 1.05 } },
    ]),
  };
}

export function tables({ smoke }) {
  return [table(64, smoke), table(1000, smoke)];
}
