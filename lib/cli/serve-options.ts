/** The options of `forkbeard serve`, as commander knows them: the one place where they are listed and explained. */
import { type Command, Option } from 'commander';

const collect = (value: string, before: string[] = []) => [...before, value];

const T = 'a time: 500ms, 30s, 5m';
const OFF = '0: off';

export function addServeOptions(command: Command): Command {
  const groups: [heading: string, options: Option[]][] = [
    [
      'Workers:',
      [
        option(
          '--workers <n|auto>',
          'how many; auto: the processors available, a cgroup quota counted (auto)',
        ),
        option(
          '--spawn-method <method>',
          'auto, fork or spawn (auto: fork where it can be done, else spawn, and say why)',
        ),
        option(
          '--refork-after <n,n,...>',
          'requests of the warmest worker after which it becomes the mold, per generation (never)',
        ),
      ],
    ],
    [
      'Addresses:',
      [
        option(
          '--listen <address>',
          "tcp://127.0.0.1:3000, tcp://[::1]:3000, unix:///run/app.sock, fd://3; repeatable (systemd's sockets, else tcp://127.0.0.1:3000)",
        ).argParser(collect),
        option('--reuse-port', 'a listening socket per worker (SO_REUSEPORT) instead of one for all'),
        option('--backlog <n>', 'connections that may wait in the kernel (2048)'),
        option(
          '--metrics <address>',
          'where /metrics, /livez and /readyz answer, as tcp://127.0.0.1:9100 (nowhere)',
        ),
        option('--control <path>', "the control socket (one in a folder of this user's)"),
        option('--no-control', 'no control socket'),
      ],
    ],
    [
      'Clocks:',
      [
        option('--boot-timeout <t>', `until a worker must be ready; ${T} (30s)`),
        option('--graceful-timeout <t>', 'what a worker gets to finish what is in flight (30s)'),
        option('--blocked-timeout <t>', `how long a worker's event loop may stand still; ${OFF} (30s)`),
        option(
          '--request-timeout <t>',
          `how long a request may take; two seconds later its worker is killed; ${OFF} (0)`,
        ),
      ],
    ],
    [
      'Limits, per worker:',
      [
        option('--max-connections <n>', `connections; more wait in the kernel; ${OFF} (0)`),
        option(
          '--max-requests-in-flight <n>',
          `requests being answered; at the limit nothing is accepted; ${OFF} (0)`,
        ),
        option('--max-requests <n>', `requests after which it is replaced; ${OFF} (0)`),
        option('--max-lifetime <t>', `age at which it is replaced; ${OFF} (0)`),
        option('--max-memory <size>', `private memory at which it is replaced: 300mb, 2gb; ${OFF} (0)`),
        option('--jitter <percent>', 'by how much requests and age differ from worker to worker (10)'),
      ],
    ],
    [
      "The application's processes:",
      [
        option('--env-file <path>', 'variables, read anew at every reload; repeatable').argParser(collect),
        option('--user <name>', 'whom they become, by name or number'),
        option('--group <name>', "their group (the user's own)"),
        option('--umask <octal>', 'their file mode mask'),
        option(
          '--rlimits <name=soft[:hard]>',
          'a resource limit: nofile=4096, core=0, nofile=1024:unlimited; repeatable',
        ).argParser(collect),
        option('--chdir <path>', 'their folder'),
        option('--title <text>', "shown in process titles (the application's name)"),
      ],
    ],
    [
      'The command itself:',
      [
        option('--log-format <format>', 'pretty or json (pretty on a terminal, else json)'),
        option('--log-file <path>', 'where the log goes, opened anew on USR1 (standard output)'),
        option('--pid-file <path>', "where the monitor's pid is written"),
        option(
          '--config <path>',
          'a file of options (forkbeard.config.ts, .mjs or .json in this folder); this line goes first',
        ),
        option('--check', 'check everything, print the plan and end'),
      ],
    ],
  ];
  for (const [heading, options] of groups) {
    for (const each of options) command.addOption(each.helpGroup(heading));
  }
  return command;
}

function option(flags: string, description: string): Option {
  return new Option(flags, description);
}
