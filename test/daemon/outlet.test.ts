/** Standard output whose reader is slow, stopped or gone. The descriptors are real; the reader is the test. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Loop, sys } from 'forkbeard';
import { afterEach, describe, expect, test } from 'vitest';
import { Outlet } from '../../dist/daemon/outlet.js';

const line = (number: number) => `${String(number).padStart(99, '.')}\n`;
const count = 20_000;
const hasScript = spawnSync('script', ['--version']).status === 0;

let open: number[] = [];
afterEach(() => {
  for (const fd of open) sys.close(fd);
  open = [];
});

/** Everything that is there for now. */
function take(fd: number): string {
  const buffer = Buffer.alloc(1 << 16);
  let text = '';
  for (let got = sys.read(fd, buffer); got > 0; got = sys.read(fd, buffer))
    text += buffer.toString('latin1', 0, got);
  return text;
}

const ends = { pipe: () => sys.pipe(), socket: () => sys.socketpair() };

describe.each(['pipe', 'socket'] as const)('by a %s', (kind) => {
  function begin(): { outlet: Outlet; reader: number; writer: number } {
    const [reader, writer] = ends[kind]();
    open.push(reader, writer);
    sys.setNonBlocking(writer, false);
    return { outlet: new Outlet(Loop.current(), writer), reader, writer };
  }

  test('what is not read waits, and comes in order', async () => {
    const { outlet, reader } = begin();
    let said = '';
    for (let number = 0; !outlet.stalled || number % 100 !== 0; number++) {
      outlet.write(line(number));
      said += line(number);
    }
    let heard = take(reader);
    while (heard.length < said.length) {
      await new Promise((resolve) => setImmediate(resolve));
      heard += take(reader);
    }
    expect(heard).toBe(said);
    expect(outlet.stalled).toBe(false);
  });

  test('what is too much is counted, and told where it is missing', async () => {
    const { outlet, reader } = begin();
    outlet.onLost = (lines) => outlet.write(`lost ${lines}\n`);
    for (let number = 0; number < count; number++) outlet.write(line(number));
    let heard = take(reader);
    while (!/lost \d+\n/.test(heard)) {
      await new Promise((resolve) => setImmediate(resolve));
      heard += take(reader);
    }
    outlet.write('after\n');
    while (!heard.endsWith('after\n')) {
      await new Promise((resolve) => setImmediate(resolve));
      heard += take(reader);
    }
    const lost = Number(/lost (\d+)\n/.exec(heard)?.[1]);
    expect(lost).toBeGreaterThan(count / 4);
    expect(heard).toBe(
      `${Array.from({ length: count - lost }, (_, number) => line(number)).join('')}lost ${lost}\nafter\n`,
    );
  });

  test('that nobody reads any more, nothing is kept', () => {
    const { outlet, reader } = begin();
    while (!outlet.stalled) outlet.write(line(0));
    open = open.filter((fd) => fd !== reader);
    sys.close(reader);
    outlet.write(line(1));
    outlet.write(line(2));
    return expect
      .poll(
        () => {
          outlet.write(line(3));
          return outlet.stalled;
        },
        { timeout: 10_000 },
      )
      .toBe(false);
  });
});

test('a pipe that others write to as well stays as it was', () => {
  const [reader, writer] = sys.pipe();
  open.push(reader, writer);
  sys.setNonBlocking(writer, false);
  const flags = () => /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${writer}`, 'latin1'))?.[1];
  const before = flags();
  new Outlet(Loop.current(), writer).write('a line\n');
  expect(take(reader)).toBe('a line\n');
  expect(flags()).toBe(before);
});

describe('a program that ends', () => {
  const program = `
    import { standardOutput } from ${JSON.stringify(new URL('../../dist/daemon/outlet.js', import.meta.url).href)};
    for (let number = 0; number < 8000; number++) standardOutput().write('x'.repeat(99) + '\\n');
  `;
  const begin = (): ChildProcess =>
    spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });

  test('waits for its reader', async () => {
    const child = begin();
    const { stdout } = child;
    let bytes = 0;
    stdout?.on('data', (chunk) => {
      bytes += chunk.length;
      // Slower than it could.
      stdout.pause();
      setTimeout(() => stdout.resume(), 10);
    });
    expect(await once(child, 'close')).toEqual([0, null]);
    expect(bytes).toBe(800_000);
  });

  test('ends without one that does not read', async () => {
    const child = begin();
    child.stdout?.pause();
    expect(await once(child, 'exit')).toEqual([0, null]);
    child.stdout?.destroy();
  });

  test.skipIf(!hasScript)(
    'ends without a terminal that takes nothing (needs script)',
    async () => {
      const home = mkdtempSync(join(tmpdir(), 'forkbeard-outlet-'));
      const [go, done] = [join(home, 'go'), join(home, 'done')];
      const waits = `
      import { existsSync, writeFileSync } from 'node:fs';
      const turn = () => new Promise((resolve) => setTimeout(resolve, 5));
      console.log('waits');
      while (!existsSync(${JSON.stringify(go)})) await turn();
      ${program}
      process.on('exit', () => writeFileSync(${JSON.stringify(done)}, ''));
    `;
      writeFileSync(join(home, 'waits.mjs'), waits);
      const terminal = spawn('script', ['-qfc', `exec ${process.execPath} ${home}/waits.mjs`, '/dev/null'], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      await once(terminal.stdout, 'data');
      terminal.kill('SIGSTOP');
      writeFileSync(go, '');
      await expect.poll(() => existsSync(done), { timeout: 60_000 }).toBe(true);
      terminal.kill('SIGKILL');
      await once(terminal, 'close');
      rmSync(home, { recursive: true });
    },
    90_000,
  );
});
