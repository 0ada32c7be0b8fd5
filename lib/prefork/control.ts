/** What may be asked of a server over its control socket: the table below, and nothing else. */
import { z } from 'zod';
import { ControlSocket as Base, type ControlFace, nothing, Refusal } from '../daemon/control.ts';
import { claim } from '../daemon/socket-file.ts';
import type { PreforkServer } from './contract.ts';
import { MOST_WORKERS } from './options/schema.ts';

const scale = z.union([
  z.strictObject({ to: z.number().int().min(1).max(MOST_WORKERS) }),
  z.strictObject({ by: z.number().int().min(-MOST_WORKERS).max(MOST_WORKERS) }),
]);

const FACE: ControlFace<PreforkServer> = {
  program: 'server',
  status: (server) => server.status(),
  actions: {
    reload: { body: nothing, run: (server) => server.reload() },
    drain: { body: nothing, run: (server) => server.drain() },
    upgrade: { body: nothing, run: (server) => server.upgrade() },
    'reopen-logs': { body: nothing, run: (server) => server.reopenLogs() },
    scale: {
      body: scale,
      run: async (server, body: z.infer<typeof scale>) => {
        const { target } = server.status();
        const to = 'to' in body ? body.to : Math.min(MOST_WORKERS, Math.max(1, target + body.by));
        await server.scale(to);
        return { from: target, to };
      },
    },
    stop: {
      body: z.strictObject({ quick: z.boolean().optional() }),
      run: async (server, { quick = false }: { quick?: boolean }) => ({ code: await server.stop({ quick }) }),
    },
    kill: {
      body: z.strictObject({ worker: z.number().int().min(1) }),
      run: (server, { worker }: { worker: number }) => {
        if (!server.status().workers.some(({ id }) => id === worker))
          throw new Refusal(404, `There is no worker ${worker}`);
        server.kill(worker);
      },
    },
  },
};

export class ControlSocket extends Base<PreforkServer> {
  /** Throws `ERR_FORKBEARD_INVALID_OPTION` when the path cannot be had: another server's, or no socket at all. */
  static async open(path: string): Promise<ControlSocket> {
    const control = new ControlSocket(await claim(path), FACE);
    await control.begin();
    return control;
  }

  /** Takes the place of the one before us, if there is one. */
  async succeed(): Promise<void> {
    if (this.succeeds) await this.publish();
  }

  override attach(server: PreforkServer): void {
    super.attach(server);
    // The one that was to follow has perhaps taken the socket already.
    server.on('upgrade-failed', () => {
      if (!this.isOurs) this.publish().catch(() => {});
    });
  }
}
