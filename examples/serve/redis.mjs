/**
 * A database: the connection is a worker's own. What is read once and shared (here: the greeting) is loaded through a
 * connection of the mold's, which is closed before each fork; a client that was copied by a fork would have two processes
 * write to one connection, and answers would reach the wrong one.
 *
 *     redis-server --port 6379 &
 *     REDIS_URL=redis://127.0.0.1:6379 npx forkbeard serve examples/serve/redis.mjs --workers 4
 */
import { createClient } from '@redis/client';

const url = process.env.REDIS_URL ?? 'redis://127.0.0.1:6379';

let client = await connect();
// In all workers, and there once.
const greeting = (await client.get('greeting')) ?? 'Hello';

/** In the mold, before each fork. */
export async function beforeFork() {
  await client?.close();
  client = undefined;
}

/** In each worker, before it accepts. Spawned workers come here with the client that they were loaded with. */
export async function afterFork() {
  client ??= await connect();
}

// Nothing in onStop: requests that are in flight then still need the client, and the worker's end closes it.

export default async function application(_request, response) {
  const visits = await client.incr('visits');
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ greeting, visits, pid: process.pid }));
}

async function connect() {
  const fresh = createClient({ url });
  fresh.on('error', (error) => console.error(`redis: ${error.message}`));
  return fresh.connect();
}
