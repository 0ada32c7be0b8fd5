// The application that the worker peers serve: express and fastify answer, and the TypeScript compiler is loaded, as a
// template engine or an ORM would be. A peer calls `serve` in each worker.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

const require = createRequire(new URL('npm/package.json', import.meta.url));
const express = require('express');
const fastify = require('fastify');
const ts = require('typescript');

const options = { compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext } };
const page = ts.transpileModule(
  'export const page = (n: number): string => "page " + n;',
  options,
).outputText;

const viaExpress = express();
viaExpress.get('/express/:id', (request, response) => {
  response.json({
    pid: process.pid,
    id: request.params.id,
    page,
    items: Array.from({ length: 20 }, (_, i) => i),
  });
});
const viaFastify = fastify();
viaFastify.get('/fastify/:id', async (request) => ({ pid: process.pid, id: request.params.id, page }));
await viaFastify.ready();

/** The application as a server of servers takes it. */
export default function application(request, response) {
  if (request.url.startsWith('/fastify')) viaFastify.routing(request, response);
  else viaExpress(request, response);
}

/** Listens, and tells where: `where` is what `listen` takes. */
export function serve(where) {
  const server = createServer(application);
  return new Promise((resolve) => server.listen(where, () => resolve(server)));
}
