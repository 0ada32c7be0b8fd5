// The servers that the TCP tables compare, and the bars that both hold them to. Used by echo.mjs and http.mjs.
import { compiled, script } from '../session.mjs';

export const C_EPOLL = 'C epoll';

/** The servers of a table: `kind` is 'echo' or 'http'; `load(command)` gives a sample of one of them. */
export function servers(kind, others, load) {
  const forkbeard = (mode, drain) => ({
    name: `forkbeard ${mode}, drain '${drain}'`,
    command: () => script(`${kind}-forkbeard`, mode, drain),
  });
  return [
    { name: C_EPOLL, command: () => [compiled(`${kind}-epoll`)] },
    forkbeard('blocking', 'batch'),
    forkbeard('integrated', 'batch'),
    forkbeard('integrated', 'handler'),
    ...others,
  ].map(({ name, command }) => ({
    name,
    async prepare() {
      const measure = await load();
      const server = command();
      return () => measure(server);
    },
  }));
}

/** The modes that a raw server would choose; the bars are theirs. */
export const RAW = ["forkbeard blocking, drain 'batch'", "forkbeard integrated, drain 'batch'"];

export const COLUMNS = [
  { title: 'requests/s', key: 'throughput', digits: 0 },
  { title: '× C epoll', key: 'throughput', of: C_EPOLL, digits: 2 },
  { title: 'CPU µs a request', key: 'cpu', digits: 2 },
  { title: 'CPU × C epoll', key: 'cpu', of: C_EPOLL, digits: 2 },
];
