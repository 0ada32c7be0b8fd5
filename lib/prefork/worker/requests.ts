/**
 * The requests that a worker has in flight: counted in its entry of the scoreboard, watched for the deadline, told to
 * be the last of their connection when the worker leaves. Learns of them by Node's diagnostics channel, which no
 * listener of the application can come before. Called for every request, so it allocates next to nothing.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server, Socket } from 'node:net';
import type { SlowRequest } from '../contract.ts';
import { type Entry, monotonic } from '../scoreboard.ts';

const STARTED = 'http.server.request.start';
const EVENT_STREAM = 'text/event-stream';
const EVENT_STREAM_HEADER = /^content-type: *text\/event-stream/im;

interface Started {
  request: IncomingMessage;
  response: ServerResponse;
  server: Server;
  socket: Socket;
}

/** A connection, with the response that is its turn: nothing public tells whether requests wait behind one. */
type Connection = Socket & { _httpMessage?: ServerResponse | null };

interface Ongoing {
  readonly request: IncomingMessage;
  readonly began: number;
  told: boolean;
  /** Its headers have been looked at. */
  known: boolean;
}

export interface RequestEvents {
  onBegin(socket: Socket): void;
  onEnd(): void;
  onSlow(request: SlowRequest): void;
}

export class Requests {
  readonly #server: Server;
  readonly #entry: Entry;
  readonly #events: RequestEvents;
  /** In the order of their coming, so the first is the oldest. Without streams of events, which are meant to last. */
  readonly #ongoing = new Map<ServerResponse, Ongoing>();
  readonly #streams = new Set<ServerResponse>();
  readonly #onClose: (this: ServerResponse) => void;
  /** Connections with requests behind one another. */
  readonly #rows = new WeakSet<Socket>();
  /** Of the clock that all processes share, less this process's own, which is cheaper to read. */
  readonly #clock = monotonic() - performance.now();
  #oldest: ServerResponse | undefined;
  #shownUrl: string | undefined;
  #shownMethod: string | undefined;
  #served = 0;
  #inFlight = 0;
  #last = false;
  #partings = 0;
  #whenIdle: (() => void) | undefined;

  constructor(server: Server, entry: Entry, events: RequestEvents) {
    this.#server = server;
    this.#entry = entry;
    this.#events = events;
    const requests = this;
    this.#onClose = function () {
      requests.#end(this);
    };
    subscribe(STARTED, this.#begin);
    // HTTP/2 has no such channel.
    if (isHttp2(server)) server.on('request', this.#beginHttp2);
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Fulfilled when nothing is in flight. */
  get idle(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#inFlight === 0) resolve();
      else this.#whenIdle = resolve;
    });
  }

  get served(): number {
    return this.#served;
  }

  readonly #begin = (message: unknown): void => {
    const { request, response, server, socket } = message as Started;
    if (server !== this.#server) return;
    this.#enter(request, response);
    if ((socket as Connection)._httpMessage) this.#watchRow(socket);
    this.#events.onBegin(socket);
  };

  /** When its connection goes, only the response that is its turn is told. */
  #watchRow(socket: Socket): void {
    if (this.#rows.has(socket)) return;
    this.#rows.add(socket);
    socket.once('close', () => {
      for (const response of this.#all()) {
        if (response.req.socket !== socket) continue;
        response.removeListener('close', this.#onClose);
        this.#end(response);
      }
    });
  }

  #all(): ServerResponse[] {
    return [...this.#ongoing.keys(), ...this.#streams];
  }

  readonly #beginHttp2 = (request: IncomingMessage, response: ServerResponse): void => {
    this.#enter(request, response);
  };

  #enter(request: IncomingMessage, response: ServerResponse): void {
    this.#served++;
    this.#inFlight++;
    if (this.#last) response.shouldKeepAlive = false;
    else if (this.#partings > 0 && response.shouldKeepAlive) {
      response.shouldKeepAlive = false;
      this.#partings--;
    }
    const ongoing = { request, began: performance.now() + this.#clock, told: false, known: false };
    this.#ongoing.set(response, ongoing);
    if (this.#oldest === undefined) this.#show(response, ongoing);
    this.#entry.set('requests', this.#served);
    this.#entry.set('inFlight', this.#inFlight);
    response.on('close', this.#onClose);
  }

  #end(response: ServerResponse): void {
    this.#inFlight--;
    this.#entry.set('inFlight', this.#inFlight);
    if (response.statusCode >= 500) this.#entry.add('errors', 1);
    this.#forget(response);
    this.#streams.delete(response);
    this.#events.onEnd();
    if (this.#inFlight === 0 && this.#whenIdle !== undefined) {
      this.#whenIdle();
      this.#whenIdle = undefined;
    }
  }

  #forget(response: ServerResponse): void {
    this.#ongoing.delete(response);
    if (response !== this.#oldest) return;
    this.#oldest = undefined;
    this.#entry.set('oldest', 0);
    if (this.#ongoing.size === 0) return;
    for (const [next, ongoing] of this.#ongoing) {
      this.#show(next, ongoing);
      return;
    }
  }

  /** Into the scoreboard, where it is still to be read when this process hangs in it. */
  #show(response: ServerResponse, { request, began }: Ongoing): void {
    this.#oldest = response;
    // Often the same as before, and comparing is cheaper than writing.
    if (request.url !== this.#shownUrl || request.method !== this.#shownMethod) {
      this.#shownUrl = request.url;
      this.#shownMethod = request.method;
      this.#entry.write('request', `${request.method} ${request.url}`);
    }
    this.#entry.set('oldest', began);
  }

  /** To be called now and then: tells of requests that take longer than `limit` ms, once each. */
  review(limit: number): void {
    const due = performance.now() + this.#clock - limit;
    for (const [response, ongoing] of this.#ongoing) {
      if (!ongoing.known && response.headersSent) {
        ongoing.known = true;
        if (isEventStream(response)) {
          this.#streams.add(response);
          this.#forget(response);
          continue;
        }
      }
      if (limit > 0 && ongoing.began <= due && !ongoing.told) {
        ongoing.told = true;
        const { method = '', url = '' } = ongoing.request;
        this.#events.onSlow({ method, url, age: due + limit - ongoing.began });
      }
    }
  }

  /** The next so many responses are the last of their connections, whose clients come back to whom they may. */
  part(count: number): void {
    this.#partings = count;
  }

  /** Every response from now on is the last of its connection. */
  lastOnes(): void {
    this.#last = true;
    for (const response of this.#ongoing.keys()) if (!response.headersSent) response.shouldKeepAlive = false;
  }

  /** Ends the streams of server-sent events: their clients connect anew, to another worker. */
  endStreams(): void {
    this.review(0);
    for (const response of this.#streams) response.end();
  }

  /** In a mold that was a worker: nothing that comes is counted any more. */
  disown(): void {
    unsubscribe(STARTED, this.#begin);
    this.#server.removeListener('request', this.#beginHttp2);
    for (const response of this.#all()) response.removeListener('close', this.#onClose);
    this.#ongoing.clear();
    this.#streams.clear();
  }
}

/** Headers that were given to `writeHead` are to be found only in what was sent. */
function isEventStream(response: ServerResponse): boolean {
  const type = response.getHeader('content-type');
  if (typeof type === 'string') return type.startsWith(EVENT_STREAM);
  const { _header: sent } = response as { _header?: unknown };
  return typeof sent === 'string' && EVENT_STREAM_HEADER.test(sent);
}

export function isHttp2(server: Server): boolean {
  return server.constructor.name.startsWith('Http2');
}
