/**
 * Server-sent events. The interval is made per request, so there is none when workers are forked; a stream that is open
 * when its worker leaves is ended, and the browser's EventSource comes back by itself, with the number it had seen.
 */
export default function application(request, response) {
  if (request.url !== '/events') return response.end('GET /events\n');
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  let id = Number(request.headers['last-event-id'] ?? 0);
  const tick = () => response.write(`id: ${++id}\ndata: ${JSON.stringify({ pid: process.pid })}\n\n`);
  tick();
  const timer = setInterval(tick, 100);
  response.on('close', () => clearInterval(timer));
}
