// Counts its visitors in Redis. Its socket comes from the supervisor, as from systemd: descriptor 3.
import { createServer } from 'node:http';
import { connect } from 'node:net';

const count = () =>
  new Promise((resolve, reject) => {
    const redis = connect(Number(process.env.REDIS_PORT), '127.0.0.1', () =>
      redis.write('INCR visitors\r\n'),
    );
    redis.once('data', (answer) => {
      redis.destroy();
      resolve(Number(String(answer).slice(1)));
    });
    redis.once('error', reject);
  });

const server = createServer(async ({ url }, response) => {
  try {
    if (url === '/health') response.end('well\n');
    else response.end(`visitor ${await count()}, served by ${process.pid}\n`);
  } catch (error) {
    response.writeHead(503).end(`${error.message}\n`);
  }
});
server.listen({ fd: 3 });
process.once('SIGTERM', () => server.close(() => process.exit()));
