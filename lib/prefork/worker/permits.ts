/**
 * What a worker may take on. A permit is looked for before a connection is accepted, so that what is too much waits in
 * the kernel, where another worker may take it. A connection that was accepted and has asked for nothing yet counts as
 * the request that is about to come.
 */
import type { Server, Socket } from 'node:net';
import type { Plan } from '../plan.ts';
import type { Pause } from '../scoreboard.ts';

/** For so long a connection that says nothing is expected to. ms */
const EXPECTED = 200;

export class Permits {
  readonly #server: Server;
  readonly #connections: number;
  readonly #requests: number;
  readonly #expected = new Map<Socket, number>();

  constructor(server: Server, { maxConnections, maxRequestsInFlight }: Plan) {
    this.#server = server;
    this.#connections = maxConnections || Number.POSITIVE_INFINITY;
    this.#requests = maxRequestsInFlight || Number.POSITIVE_INFINITY;
  }

  /** What there is too much of for another connection; '' when there is room. */
  lack(connections: number, inFlight: number): Pause {
    // The application may have a limit of its own, and change it.
    if (connections >= Math.min(this.#connections, this.#server.maxConnections || Number.POSITIVE_INFINITY))
      return 'connections';
    return inFlight + this.#expected.size >= this.#requests ? 'requests' : '';
  }

  accepted(socket: Socket): void {
    if (this.#requests !== Number.POSITIVE_INFINITY) this.#expected.set(socket, performance.now());
  }

  /** It has sent its request, or is gone. */
  settled(socket: Socket): void {
    this.#expected.delete(socket);
  }

  /** To be called now and then: those that have been silent for long hold nobody up. */
  review(): void {
    const due = performance.now() - EXPECTED;
    for (const [socket, since] of this.#expected) {
      if (since > due) return;
      this.#expected.delete(socket);
    }
  }
}
