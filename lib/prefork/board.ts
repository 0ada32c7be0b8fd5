/**
 * What a server looks like, as lines: the table that `forkbeard serve` shows on a terminal and `forkbeard ctl status`
 * prints. Made from a status alone; writes nothing.
 */
import { columns, cut, type Paint, painter } from '../daemon/table.ts';
import { time } from '../daemon/words.ts';
import type { PreforkStatus, WorkerStatus } from './contract.ts';
import { asUrl } from './sentences.ts';

export interface BoardStyle {
  colour: boolean;
  /** Of the terminal; workers that do not fit are counted in one line. */
  rows?: number;
  columns?: number;
}

/** Requests a second of each worker, by pid: from how many it had served when it was last looked at. */
export class Rates {
  readonly #last = new Map<number, { requests: number; at: number; rate: number }>();

  look(workers: readonly WorkerStatus[], now: number): Map<number, number> {
    const pids = new Set(workers.map(({ pid }) => pid));
    for (const pid of this.#last.keys()) if (!pids.has(pid)) this.#last.delete(pid);
    for (const { pid, requests } of workers) {
      const last = this.#last.get(pid);
      // Two looks in a moment say nothing.
      if (last !== undefined && now - last.at < 250) continue;
      const rate = last === undefined ? 0 : ((requests - last.requests) * 1000) / (now - last.at);
      this.#last.set(pid, { requests, at: now, rate });
    }
    return new Map([...this.#last].map(([pid, { rate }]) => [pid, rate]));
  }
}

const HEAD = [
  'worker',
  'pid',
  'gen',
  'state',
  'age',
  'req/s',
  'requests',
  'in flight',
  'conns',
  'lag',
  'uss',
  'rss',
];
const STATE = HEAD.indexOf('state');
/** What a narrow terminal does without, the first of them first. */
const DISPENSABLE = ['rss', 'requests', 'conns', 'gen', 'lag', 'age', 'in flight'];
const GAP = '  ';
const PAINT = { starting: '33', ready: '32', draining: '36', ended: '90' } as const;

export function board(status: PreforkStatus, rates: Map<number, number>, style: BoardStyle): string[] {
  const paint = painter(style.colour);
  const lines = summary(status, rates, paint);
  if (status.workers.length === 0) return lines;
  lines.push('');
  const room = Math.max(1, (style.rows ?? Number.POSITIVE_INFINITY) - lines.length - 3);
  const shown = status.workers.length > room ? status.workers.slice(0, room) : status.workers;
  const [head = [], ...cells] = columns(
    [HEAD, ...shown.map((worker) => row(worker, rates.get(worker.pid)))],
    [STATE],
  );
  const fitting = columnsWithin(
    style.columns,
    head.map(({ length }) => length),
  );
  const asLine = (line: readonly string[]) => fitting.map((index) => line[index]).join(GAP);
  lines.push(paint(asLine(head), '1'));
  shown.forEach((worker, index) => {
    const line = cells[index] as string[];
    line[STATE] = paint(line[STATE] as string, PAINT[worker.state]);
    lines.push(asLine(line));
  });
  if (shown.length < status.workers.length) lines.push(`… and ${status.workers.length - shown.length} more`);
  return style.columns === undefined ? lines : lines.map((line) => cut(line, style.columns as number));
}

/** The columns that there is room for. */
function columnsWithin(room = Number.POSITIVE_INFINITY, widths: readonly number[]): number[] {
  let kept = [...widths.keys()];
  const width = () => kept.reduce((sum, index) => sum + (widths[index] as number) + GAP.length, -GAP.length);
  for (const name of DISPENSABLE) if (width() > room) kept = kept.filter((index) => HEAD[index] !== name);
  return kept;
}

function summary(status: PreforkStatus, rates: Map<number, number>, paint: Paint): string[] {
  const { state, ready, target, generation, method, workers } = status;
  const total = workers.reduce((sum, { pid }) => sum + (rates.get(pid) ?? 0), 0);
  const parts = [
    paint(state, state === 'ready' ? '32' : '33'),
    `${ready} of ${target} ready`,
    `generation ${generation}`,
    method === 'fork' ? 'forked' : 'spawned',
    `${total.toFixed(0)} req/s`,
    ...memory(workers),
  ];
  const exits = Object.entries(status.exits).filter(([, count]) => count > 0);
  return [
    `${paint('forkbeard', '1')} ${status.listen.map(asUrl).join('  ')}`,
    parts.join(' · '),
    ...(status.reason === '' ? [] : [`spawned, not forked: ${status.reason}`]),
    ...(exits.length === 0
      ? []
      : [`ended: ${exits.map(([cause, count]) => `${count} ${cause}`).join(', ')}`]),
  ];
}

/** What all workers take together, and which part of what each seems to take is shared. */
function memory(workers: readonly WorkerStatus[]): string[] {
  const { pss, share } = memoryOf(workers);
  if (pss === 0) return [];
  return [`${size(pss)}, ${(share * 100).toFixed(0)} % shared`];
}

export function memoryOf(workers: readonly WorkerStatus[]): {
  rss: number;
  pss: number;
  uss: number;
  share: number;
} {
  const sum = { rss: 0, pss: 0, uss: 0 };
  for (const { memory: own } of workers) {
    if (own === null) continue;
    sum.rss += own.rss;
    sum.pss += own.pss;
    sum.uss += own.uss;
  }
  return { ...sum, share: sum.rss === 0 ? 0 : 1 - sum.uss / sum.rss };
}

function row(worker: WorkerStatus, rate: number | undefined): string[] {
  const {
    id,
    pid,
    generation,
    state,
    paused,
    age,
    requests,
    inFlight,
    connections,
    lag,
    memory: own,
  } = worker;
  return [
    String(id),
    String(pid),
    String(generation),
    paused === '' ? state : `${state} (${paused})`,
    time(age),
    (rate ?? 0).toFixed(0),
    String(requests),
    String(inFlight),
    String(connections),
    time(lag),
    own === null ? '–' : size(own.uss),
    own === null ? '–' : size(own.rss),
  ];
}

function size(bytes: number): string {
  const mb = bytes / 2 ** 20;
  return mb < 1000 ? `${mb.toFixed(1)} MB` : `${(mb / 1024).toFixed(1)} GB`;
}
