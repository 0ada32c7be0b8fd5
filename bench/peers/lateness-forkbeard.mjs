// How late forkbeard's timers fire: … timers warmups rounds blocking|integrated
import { Loop } from 'forkbeard';
import { measure } from './lateness-work.mjs';

const loop = new Loop();

await measure({
  start: (ms, callback) => loop.watchTime({ after: ms }, callback),
  run: process.argv[5] === 'blocking' ? () => loop.runSync() : () => loop.run(),
  stop: () => loop.stop(),
});
loop.close();
