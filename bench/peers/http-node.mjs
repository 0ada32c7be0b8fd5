// The hello-world server on node:http, as its documentation writes it.
import { createServer } from 'node:http';

const server = createServer((_request, response) => {
  response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': 14 });
  response.end('Hello, world!\n');
});
server.listen({ host: '127.0.0.1', port: 0, backlog: 1024 }, () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
