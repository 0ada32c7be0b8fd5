// The hello-world HTTP server on node:net, as little of it as on raw descriptors.
import { createServer } from 'node:net';
import { countRequests, RESPONSE } from './http-hello.mjs';

const server = createServer((socket) => {
  const matched = new Uint8Array(1);
  socket.on('error', () => socket.destroy());
  socket.on('data', (bytes) => {
    const requests = countRequests(bytes, bytes.length, matched, 0);
    if (requests === 1) socket.write(RESPONSE);
    else if (requests > 1) socket.write(Buffer.alloc(requests * RESPONSE.length, RESPONSE));
  });
});
server.listen({ host: '127.0.0.1', port: 0, backlog: 1024 }, () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
