// The answer that the raw HTTP servers give, and how they find the end of a request: the same as in http-epoll.c.
export const RESPONSE = Buffer.from(
  'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n',
);

const CR = 13;
const END = Uint8Array.from([13, 10, 13, 10]);

/** How many requests end in these bytes. `matched[connection]` keeps how much of an end has been seen. */
export function countRequests(bytes, length, matched, connection) {
  let seen = matched[connection];
  let requests = 0;
  for (let i = 0; i < length; i++) {
    const byte = bytes[i];
    if (byte === END[seen]) {
      if (++seen === 4) {
        seen = 0;
        requests++;
      }
    } else {
      seen = byte === CR ? 1 : 0;
    }
  }
  matched[connection] = seen;
  return requests;
}
