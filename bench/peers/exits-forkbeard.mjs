// Exits as forkbeard tells them.
import { Loop } from 'forkbeard';
import { measure } from './exits-work.mjs';

const loop = new Loop();
await measure(
  (ended) => loop.spawn({ command: ['/bin/sleep', '1000'], onExit: ({ pid }) => ended(pid) }).pid,
);
