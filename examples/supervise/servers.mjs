// Real servers under `forkbeard supervise examples/supervise/servers.mjs`: nginx in front of an application that counts its
// visitors in Redis (apt-get install nginx-light redis-server). `curl http://127.0.0.1:8080/` counts.
//
// Kill any of them and look: each comes back by itself, the application without a refused connection, because its socket
// is the supervisor's. PORT moves all of it: nginx listens there, the others at the two ports above it.
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const web = Number(process.env.PORT ?? 8080);
const application = web + 1;
const cache = web + 2;
const folder = process.env.EXAMPLE_FOLDER ?? join(tmpdir(), `forkbeard-servers-${process.getuid()}`);
const program = (name) => fileURLToPath(new URL(name, import.meta.url));

/** @type {import('forkbeard/supervisor').SupervisorOptions} */
export default {
  stateDir: join(folder, 'state'),
  services: {
    // Once, before the others: a folder, and nginx's configuration in it.
    prepare: {
      command: [process.execPath, program('prepare.mjs'), folder, String(web), String(application)],
      restart: 'temporary',
    },
    redis: {
      command: [
        'redis-server',
        '--port',
        String(cache),
        '--bind',
        '127.0.0.1',
        '--dir',
        folder,
        '--save',
        '',
      ],
      dependsOn: [{ service: 'prepare', until: 'done' }],
      // The port first: a Redis that somebody else started there is named, and not fought with.
      gates: [{ port: cache, host: '127.0.0.1' }],
      ready: { exec: ['redis-cli', '-p', String(cache), 'ping'] },
      live: { tcp: cache, every: '2s' },
    },
    application: {
      command: [process.execPath, program('application.mjs')],
      env: { REDIS_PORT: String(cache) },
      // Bound by the supervisor, handed over at each start: who comes in between waits, and is served.
      listen: `tcp://127.0.0.1:${application}`,
      dependsOn: ['redis'],
      ready: { http: `http://127.0.0.1:${application}/health` },
    },
    nginx: {
      command: ['nginx', '-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr'],
      dependsOn: ['application'],
      gates: [{ port: web, host: '127.0.0.1' }],
      ready: { http: `http://127.0.0.1:${web}/health` },
      // QUIT lets it answer what it has begun.
      stop: [{ signal: 'QUIT', wait: '5s' }, { signal: 'TERM', wait: '2s' }, { signal: 'KILL' }],
    },
  },
};
