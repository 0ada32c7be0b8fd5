// Spawns with forkbeard.
import { Loop } from 'forkbeard';
import { measure } from './spawn-work.mjs';

const loop = new Loop();
await measure((onExit) => loop.spawn({ command: '/bin/true', onExit }));
