/**
 * Plain node:http, with what an application often does: an answer, a slow one, a stream. The default export is the
 * request listener; no server, no port, no cluster code.
 *
 *     npx forkbeard serve examples/serve/http.mjs --workers 4
 *     curl http://127.0.0.1:3000/
 */
import { setTimeout as delay } from 'node:timers/promises';

export default async function application(request, response) {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  switch (pathname) {
    case '/':
      return response.end(`Hello from worker ${process.pid}\n`);
    case '/slow': {
      await delay(Math.min(10_000, Number(searchParams.get('ms') ?? 2000)));
      return response.end(`${process.pid} took its time\n`);
    }
    case '/count': {
      for (let line = 1; line <= 100; line++) {
        if (!response.write(`${line}\n`)) await new Promise((resolve) => response.once('drain', resolve));
      }
      return response.end();
    }
    case '/echo':
      return request.pipe(response);
    default:
      response.statusCode = 404;
      return response.end('Nothing here\n');
  }
}
