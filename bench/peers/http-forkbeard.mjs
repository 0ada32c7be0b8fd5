// The hello-world HTTP server on forkbeard's raw descriptors: it looks for the ends of requests and answers each of them.
import { countRequests, RESPONSE } from './http-hello.mjs';
import { answer, serve } from './server-forkbeard.mjs';

const matched = new Uint8Array(65536);

serve({
  bytes(fd, bytes, length) {
    const requests = countRequests(bytes, length, matched, fd);
    if (requests === 1) answer(fd, RESPONSE, RESPONSE.length);
    else if (requests > 1)
      answer(fd, Buffer.alloc(requests * RESPONSE.length, RESPONSE), requests * RESPONSE.length);
  },
  close(fd) {
    matched[fd] = 0;
  },
});
