// The timer benchmark on forkbeard: … timers blocking|integrated batch|handler
import { Loop } from 'forkbeard';
import { measure } from './timers-work.mjs';

const [mode, drain] = process.argv.slice(3);
const loop = new Loop({ drain });
const watchers = [];
let fired = 0;
let expected = Infinity;

function onTimer() {
  if (++fired !== expected) return;
  fired = 0;
  expected = Infinity;
  loop.stop();
}

await measure({
  add(index, ms) {
    watchers[index] = loop.watchTime({ after: ms }, onTimer);
  },
  cancel(index) {
    watchers[index].stop();
  },
  fire(count) {
    expected = count;
    return mode === 'blocking' ? loop.runSync() : loop.run();
  },
});
loop.close();
