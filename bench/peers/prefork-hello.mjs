// Hello world, and how often this process has said it.
let served = 0;

export default function application(request, response) {
  if (request.url === '/count') {
    response.setHeader('connection', 'close');
    response.end(JSON.stringify({ pid: process.pid, served }));
    return;
  }
  served++;
  response.setHeader('content-type', 'text/plain');
  response.end('Hello, world!\n');
}
