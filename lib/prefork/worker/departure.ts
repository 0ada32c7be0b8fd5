/**
 * How a worker leaves without anybody noticing: it accepts nothing more, answers what is in flight, and tells every
 * client with its last response that the connection ends. Connections that are idle get a while in which a request
 * that is on its way arrives and is answered; then they are closed. Streams of events are ended when the application
 * has said goodbye; upgraded connections are the application's to end.
 */
import type { Server } from 'node:net';
import { setImmediate, setTimeout } from 'node:timers/promises';
import type { Attachment } from './attachment.ts';
import { complain } from './endings.ts';
import { isHttp2, type Requests } from './requests.ts';

/** For a request that was sent before the client could know. ms */
const LINGER = 500;
/** The same where nobody waits for the end, and the client may be slow, or its processor busy. ms */
const LONGEST_LINGER = 2000;
const BETWEEN_SWEEPS = 50;

/** Parts of servers that not all kinds have. */
type Closable = Server & { closeIdleConnections?(): void; keepAliveTimeout?: number };

interface Session {
  close(): void;
  once(event: 'close', listener: () => void): void;
}

export interface Leaving {
  server: Server;
  attachment: Attachment;
  requests: Requests;
  sessions: ReadonlySet<Session>;
  /** The application's goodbye. */
  onStop(): unknown;
  /** What is left to do when everybody is gone. */
  onEmpty(): unknown;
  /** Others serve meanwhile: there is time for clients that are slow to ask again. */
  patient: boolean;
  /** ms */
  limit: number;
}

/** True when all was finished within the limit. */
export async function depart(leaving: Leaving): Promise<boolean> {
  const { attachment, requests, limit } = leaving;
  attachment.stop();
  requests.lastOnes();
  const late = new AbortController();
  const overdue = setTimeout(limit, false, { signal: late.signal });
  const finished = finish(leaving, late.signal).then(() => true);
  const inTime = await Promise.race([finished, overdue]);
  late.abort();
  return inTime;
}

async function finish(leaving: Leaving, late: AbortSignal) {
  const { attachment, requests, sessions, onStop, onEmpty } = leaving;
  const goodbye = settled('onStop', onStop).then(() => requests.endStreams());
  for (const session of sessions) session.close();
  void sweep(leaving, late);
  await attachment.empty;
  await goodbye;
  await settled('close', onEmpty);
}

/** Idle connections, after the round in which what has arrived for them was read. */
async function sweep(leaving: Leaving, late: AbortSignal): Promise<void> {
  const { attachment } = leaving;
  const server: Closable = leaving.server;
  if (server.closeIdleConnections === undefined) return;
  for (let wait = lingerOf(leaving); attachment.connections > 0; wait = BETWEEN_SWEEPS) {
    await setTimeout(wait);
    await setImmediate();
    if (late.aborted) return;
    server.closeIdleConnections();
  }
}

/** Clients know how long an idle connection is kept (`Keep-Alive: timeout=5`), and expect no end before. */
function lingerOf({ server, patient, limit }: Leaving): number {
  if (!patient) return LINGER;
  // 0: for ever.
  const promised = (server as Closable).keepAliveTimeout || LONGEST_LINGER;
  return Math.max(LINGER, Math.min(promised, LONGEST_LINGER, limit / 2));
}

async function settled(what: string, act: () => unknown): Promise<void> {
  try {
    await act();
  } catch (error) {
    complain(`${what}: ${error instanceof Error ? error.stack : String(error)}\n`);
  }
}

/** HTTP/2 has sessions, which end when their streams have. */
export function sessionsOf(server: Server): ReadonlySet<Session> {
  const sessions = new Set<Session>();
  if (!isHttp2(server)) return sessions;
  server.on('session', (session: Session) => {
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
  });
  return sessions;
}
