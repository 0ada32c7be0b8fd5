/**
 * `forkbeard doctor`: what this machine, this Node and an application allow, found out by looking and by trying. It
 * forks itself for the trial and loads the application in a process of its own; it changes nothing.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { availableParallelism, release, totalmem } from 'node:os';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { deflate, inflate } from 'node:zlib';
import type { ForkHazard, ForkSafety } from '../process/contract.ts';
import { Loop } from '../process/loop.ts';
import type { AppReport } from './doctor-app.ts';
import { type Finding, type Level, print, type Section } from './report.ts';

const APP_LIMIT_MS = 60_000;
/** Node's exit code for a main module that waits for nothing. */
const UNSETTLED = 13;

export async function doctor({ app, json = false }: { app?: string; json?: boolean }): Promise<number> {
  const loop = Loop.current();
  const safety = loop.forkSafety();
  const sections: Section[] = [
    { title: 'Machine', findings: machine() },
    { title: 'Node', findings: node(safety) },
    { title: 'A fork, tried', findings: safety.method === 'fork' ? await trial(loop) : notTried() },
  ];
  if (app !== undefined)
    sections.push({ title: `Application ${app}`, findings: await application(loop, app) });
  const healthy = sections.every(({ findings }) => findings.every(({ level }) => level !== 'fail'));
  const report = json
    ? JSON.stringify({ healthy, method: healthy ? 'fork' : 'spawn', sections }, null, 2)
    : print(sections, healthy, process.stdout.isTTY && process.env['NO_COLOR'] === undefined);
  await say(`${report}\n`);
  return healthy ? 0 : 1;
}

function say(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    // Told to whoever writes, below.
    process.stdout.on('error', () => {});
    process.stdout.write(text, (error) => {
      // Whoever reads may have seen enough, as `head` has.
      if (error != null && (error as NodeJS.ErrnoException).code !== 'EPIPE') reject(error);
      else resolve();
    });
  });
}

// ------------------------------------------------------------------------------------ the machine

function machine(): Finding[] {
  const findings: Finding[] = [
    { level: 'info', subject: 'system', text: `${process.platform} ${release()}, ${process.arch}` },
    {
      level: 'info',
      subject: 'size',
      text: `${availableParallelism()} processors, ${(totalmem() / 2 ** 30).toFixed(1)} GiB of memory`,
    },
    { level: 'ok', subject: 'backends', text: Loop.backends.join(', ') },
  ];
  if (process.platform !== 'linux') return findings;
  const huge = /\[(\w+)\]/.exec(read('/sys/kernel/mm/transparent_hugepage/enabled'))?.[1];
  if (huge !== undefined) {
    const always = huge === 'always';
    const text = always
      ? 'always: the first write to a shared page copies 2 MB of it.\nWrite madvise to /sys/kernel/mm/transparent_hugepage/enabled'
      : huge;
    findings.push({ level: always ? 'warn' : 'ok', subject: 'huge pages', text });
  }
  const overcommit = read('/proc/sys/vm/overcommit_memory').trim();
  if (overcommit !== '') {
    findings.push({
      level: overcommit === '2' ? 'warn' : 'ok',
      subject: 'overcommit',
      text:
        overcommit === '2'
          ? 'never (vm.overcommit_memory = 2): a fork needs as much free memory as its parent may write to'
          : `allowed (vm.overcommit_memory = ${overcommit})`,
    });
  }
  for (const [subject, line, least] of [
    ['descriptors', 'Max open files', 1024],
    ['processes', 'Max processes', 256],
  ] as const) {
    const limit = new RegExp(`^${line}\\s+(\\S+)`, 'm').exec(read('/proc/self/limits'))?.[1];
    if (limit === undefined) continue;
    const few = limit !== 'unlimited' && Number(limit) < least;
    findings.push({
      level: few ? 'warn' : 'ok',
      subject,
      text: few ? `at most ${limit}: few for a server` : `at most ${limit}`,
    });
  }
  return findings;
}

// ------------------------------------------------------------------------------------ Node

const V8_STATES: Record<ForkSafety['v8'], [Level, string]> = {
  'workers-recreated': ['ok', "V8's background threads are started anew in a child"],
  'single-threaded': ['ok', 'V8 has no background threads (--single-threaded)'],
  unsupported: ['fail', "V8's background threads cannot be started anew in a child"],
};

function node(safety: ForkSafety): Finding[] {
  const [level, text] = V8_STATES[safety.v8];
  return [
    {
      level: 'info',
      subject: 'version',
      text: `${process.version}, ABI ${process.versions.modules}, V8 ${process.versions.v8}`,
    },
    { level, subject: 'V8', text },
    ...safety.hazards.map(hazardFinding),
  ];
}

function hazardFinding({ code, message, blocking }: ForkHazard): Finding {
  return { level: blocking ? 'fail' : 'warn', subject: code, text: message };
}

// ------------------------------------------------------------------------------------ the trial

function notTried(): Finding[] {
  return [{ level: 'fail', subject: 'fork', text: 'not tried: see above' }];
}

/** What a child reports of itself. */
interface Life {
  pid: number;
  loopId: string;
  uuid: string;
  random: number;
  written: string;
  sum: number;
}

async function trial(loop: Loop): Promise<Finding[]> {
  const memory = { written: 'by the parent' };
  const uuids = new Set<string>([randomUUID()]);
  const randoms = new Set([Math.random()]);
  const findings: Finding[] = [];
  const lives: Life[] = [];
  const started = loop.now();
  try {
    for (let i = 0; i < 2; i++)
      lives.push(await loop.call(({ loop: own }) => live(own, memory), { timeout: 20_000 }));
  } catch (error) {
    const text = `a child failed: ${error instanceof Error ? error.message : String(error)}`;
    return [{ level: 'fail', subject: 'work', text }];
  }
  const each = (loop.now() - started) / lives.length;
  findings.push({
    level: 'ok',
    subject: 'work',
    text: `two children collected garbage, compiled, read files, compressed and slept (${each.toFixed(0)} ms each)`,
  });
  const isolated =
    memory.written === 'by the parent' &&
    lives.every((life) => life.pid !== process.pid && life.loopId !== loop.id);
  findings.push({
    level: isolated ? 'ok' : 'fail',
    subject: 'isolation',
    text: isolated
      ? 'memory, pid and loop of a child are its own'
      : 'a child and its parent share what they must not',
  });
  for (const life of lives) {
    uuids.add(life.uuid);
    randoms.add(life.random);
  }
  uuids.add(randomUUID());
  randoms.add(Math.random());
  const apart = uuids.size === lives.length + 2 && randoms.size === lives.length + 2;
  findings.push({
    level: apart ? 'ok' : 'fail',
    subject: 'entropy',
    text: apart
      ? 'parent and children draw different random numbers'
      : 'processes draw the same random numbers',
  });
  const again = loop.now();
  await loop.call(() => 1);
  findings.push({
    level: 'info',
    subject: 'round trip',
    text: `${(loop.now() - again).toFixed(1)} ms for a call in a child`,
  });
  return findings;
}

/** A little of everything that hangs in a child whose threads are missing. Runs in the child. */
async function live(loop: Loop, memory: { written: string }): Promise<Life> {
  memory.written = 'by a child';
  let sum = 0;
  let garbage: { i: number }[] = [];
  for (let i = 0; i < 500_000; i++) {
    garbage.push({ i });
    sum += garbage.length;
    if (garbage.length > 10_000) garbage = [];
  }
  const text = readFileSync(fileURLToPath(import.meta.url));
  const { readFile } = await import('node:fs/promises');
  await readFile(fileURLToPath(import.meta.url));
  const packed = await promisify(deflate)(text);
  if (!(await promisify(inflate)(packed)).equals(text)) throw new Error('zlib works wrongly in a child');
  await loop.delay(1);
  await new Promise((done) => setTimeout(done, 1));
  return {
    pid: process.pid,
    loopId: loop.id,
    uuid: randomUUID(),
    random: Math.random(),
    written: memory.written,
    sum,
  };
}

// ------------------------------------------------------------------------------------ the application

async function application(loop: Loop, app: string): Promise<Finding[]> {
  const probe = fileURLToPath(new URL('./doctor-app.js', import.meta.url));
  const child = loop.spawn({
    command: [process.execPath, probe, resolve(app)],
    stdio: { stdin: 'ignore', stdout: 'ignore', stderr: 'pipe', 3: 'pipe' },
    group: 'new',
  });
  const texts = { report: '', stderr: '' };
  const ended = Promise.all([
    gather(child.stdio[3], (text) => (texts.report += text)),
    gather(child.stderr, (text) => (texts.stderr += text)),
  ]);
  const limit = new AbortController();
  const inTime = await Promise.race([
    ended.then(() => true),
    loop.delay(APP_LIMIT_MS, { signal: limit.signal }).then(
      () => false,
      () => false,
    ),
  ]);
  limit.abort();
  await child.stop({ signal: 'SIGKILL' });
  if (!inTime)
    return [{ level: 'fail', subject: 'load', text: `not loaded within ${APP_LIMIT_MS / 1000} s` }];
  if (texts.report === '') {
    const { exitCode, signal } = await child.exited;
    const how =
      signal !== null
        ? `signal ${signal}`
        : exitCode === UNSETTLED
          ? `exit code ${UNSETTLED}: what it awaits at its top level never comes`
          : `exit code ${exitCode}`;
    const text = `it ended its process (${how})\n${texts.stderr}`.trim();
    return [{ level: 'fail', subject: 'load', text }];
  }
  return judge(JSON.parse(texts.report) as AppReport);
}

function judge(report: AppReport): Finding[] {
  if (report.error !== undefined) return [{ level: 'fail', subject: 'load', text: report.error }];
  const findings: Finding[] = [
    {
      level: 'ok',
      subject: 'load',
      text: `${report.loadMs.toFixed(0)} ms, ${(report.rss / 2 ** 20).toFixed(0)} MB resident`,
    },
    ...report.hazards.map(hazardFinding),
  ];
  if (report.forkMs !== undefined) {
    findings.push({
      level: 'ok',
      subject: 'fork',
      text: `a call in a child took ${report.forkMs.toFixed(1)} ms`,
    });
  } else if (report.forkError !== undefined) {
    findings.push({ level: 'fail', subject: 'fork', text: report.forkError });
  }
  return findings;
}

async function gather(
  stream: NodeJS.ReadableStream | null | undefined,
  take: (text: string) => void,
): Promise<void> {
  if (stream === null || stream === undefined) return;
  for await (const chunk of stream) take(String(chunk));
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
