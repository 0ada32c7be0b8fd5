/**
 * A mold plays a worker once before it forks any: a real one, with a channel, a scoreboard and a listener of its own, an
 * application that says little, and clients in the same process. What each worker would have to compile for itself, ours
 * and Node's, is compiled then, and shared. Before the application is loaded, so that nothing of it sees this or is asked
 * anything. Whatever goes wrong here, workers do without.
 */
import { executionAsyncResource } from 'node:async_hooks';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import type { Loop } from '../../process/loop.ts';
import { sharedMemory } from '../../process/shared-memory.ts';
import { close, listen, localAddress } from '../../sys/index.ts';
import { Channel, channelPair } from '../channel.ts';
import type { FromWorker, ToWorker } from '../messages.ts';
import type { Plan } from '../plan.ts';
import { boardSize, Scoreboard } from '../scoreboard.ts';
import { Application } from './application.ts';
import { Worker } from './worker.ts';

/** So many that V8 notes down what is called, and with what. More make a worker's first requests no cheaper. */
const ROUNDS = 4;
/** A machine that takes longer has better things to do. ms */
const LIMIT = 1000;

/** From one round: of each question three things. */
const KEPT = 9;

/** What clients ask for, on one connection: to be kept and to be closed, with a body and without. */
const QUESTIONS = [
  'GET /one?two=3 HTTP/1.1\r\nhost: localhost\r\nuser-agent: rehearsal\r\naccept: */*\r\n\r\n',
  'POST /four HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}',
  'GET /five HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n',
].join('');

/**
 * What V8 has learned of objects it forgets with the last of their kind, and of some (those of `process.nextTick`) it learns
 * nothing a second time: every request would cost half as much again. So one of each kind stays.
 */
const kept: unknown[] = [];

export async function rehearse(loop: Loop, plan: Plan): Promise<void> {
  const { title } = process;
  const { FORKBEARD_WORKER: number } = process.env;
  const undo: (() => void)[] = [];
  const over = new AbortController();
  const late = loop.delay(LIMIT, { signal: over.signal }).catch(() => {});
  try {
    await Promise.race([play(loop, plan, undo), late]);
  } catch {
    // No descriptor left for it, say: whoever is short of something tells so when it matters.
  }
  over.abort();
  for (const one of undo.reverse()) one();
  process.title = title;
  if (number === undefined) delete process.env['FORKBEARD_WORKER'];
  else process.env['FORKBEARD_WORKER'] = number;
}

/** `undo` is what takes back what was done until now. */
async function play(loop: Loop, plan: Plan, undo: (() => void)[]): Promise<void> {
  const { fd: boardFd, memory } = sharedMemory(boardSize(2));
  undo.push(() => close(boardFd));
  const [ours, theirs] = channelPair();
  const ready = new Promise<void>((resolve) => {
    const onMessage = ({ type }: FromWorker) => type === 'ready' && resolve();
    const monitor = new Channel<FromWorker, ToWorker>(loop, ours, { onMessage, onEnd: () => {} });
    undo.push(() => monitor.close());
  });
  const channel = new Channel<ToWorker, FromWorker>(loop, theirs, { onMessage: () => {}, onEnd: () => {} });
  undo.push(() => channel.close());
  // The worker's to close.
  const listener = listen({ host: '127.0.0.1', port: 0 });
  const address = localAddress(listener) as { host: string; port: number };
  const worker = new Worker({
    loop,
    channel,
    board: new Scoreboard(memory),
    boardFd,
    listeners: [listener],
    plan: { ...plan, maxConnections: 0, maxRequestsInFlight: 0 },
    place: { worker: 0, generation: 0, entry: 0, maxRequests: 0, maxLifetime: 0 },
    method: 'fork',
    application: Application.of(answer),
  });
  undo.push(() => worker.dispose());
  await worker.start();
  await ready;
  for (let round = 0; round < ROUNDS; round++) await ask(address, undo);
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  if (kept.length < KEPT) {
    kept.push(request, response);
    process.nextTick(() => kept.push(executionAsyncResource()));
  }
  response.setHeader('content-type', 'application/json; charset=utf-8');
  if (request.method === 'GET') {
    response.end('{}');
    return;
  }
  request.resume().on('end', () => {
    response.writeHead(200, { 'cache-control': 'no-store' });
    response.write('{');
    response.end('}');
  });
}

function ask(address: { host: string; port: number }, undo: (() => void)[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(address)
      .on('error', reject)
      .on('close', () => resolve());
    undo.push(() => socket.destroy());
    socket.resume().write(QUESTIONS);
  });
}
