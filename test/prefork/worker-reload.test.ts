/**
 * Workers that replace each other under load: no request is lost, whatever the clients are doing at that moment.
 */
import { execFile } from 'node:child_process';
import { Agent, request as httpRequest } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { answer, methods, monitorForEach } from './tiny-monitor.ts';

const start = monitorForEach();
const run = promisify(execFile);

/** Complaints of wrk about what it got; none when all was well. */
function complaints(report: string): string[] {
  return report.split('\n').filter((line) => /Socket errors|Non-2xx/.test(line));
}

describe.each(methods)('by %s, under load', (method) => {
  test('ten replacements lose no request', async () => {
    const monitor = start('routes.mjs');
    let serving = [await monitor.worker(method), await monitor.worker(method)];
    const load = run('wrk', ['-c', '64', '-t', '1', '-d', '5', `${monitor.url}/`]);
    const gone = [];
    for (let i = 0; i < 10; i++) {
      const next = await monitor.worker(method);
      const [oldest, ...others] = serving;
      serving = [...others, next];
      oldest?.say({ type: 'stop', how: 'graceful', recycled: false });
      gone.push(oldest?.end());
      await oldest?.end();
    }
    expect(await Promise.all(gone)).toEqual(gone.map(() => 0));
    const { stdout } = await load;
    expect(complaints(stdout)).toEqual([]);
    expect(Number(/(\d+) requests in/.exec(stdout)?.[1])).toBeGreaterThan(1000);
  });

  test('clients that pause between requests on one connection lose none', async () => {
    const monitor = start('routes.mjs');
    let serving = await monitor.worker(method);
    let stopped = false;
    let reused = 0;
    const client = async (pause: number): Promise<number> => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      let answers = 0;
      for (; !stopped; answers++) {
        const request = httpRequest(`${monitor.url}/`, { agent }).end();
        expect((await answer(request)).body).toBe('hello\n');
        if (request.reusedSocket) reused++;
        await sleep(pause);
      }
      agent.destroy();
      return answers;
    };
    // Well within the time that an idle connection is given: these clients may be late themselves.
    const clients = Array.from({ length: 40 }, (_, i) => client(4 * i));
    for (let i = 0; i < 4; i++) {
      const next = await monitor.worker(method);
      serving.say({ type: 'stop', how: 'graceful', recycled: false });
      expect(await serving.end()).toBe(0);
      serving = next;
    }
    stopped = true;
    const answers = await Promise.all(clients);
    expect(Math.min(...answers)).toBeGreaterThan(1);
    expect(reused).toBeGreaterThan(40);
  });
});
