/**
 * WebSockets with `ws`: an http.Server of the application's own, on which `ws` listens for upgrades. Connections that are
 * open when a worker leaves are told so in `onStop` (1001, going away) and connect again, to another worker.
 */
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const server = createServer((_request, response) => response.end('Speak WebSocket to me\n'));
const sockets = new WebSocketServer({ server });

sockets.on('connection', (socket) => {
  socket.on('message', (data) => socket.send(`${process.pid}: ${data}`));
});

export function onStop() {
  for (const socket of sockets.clients) socket.close(1001, 'going away');
}

export default server;
