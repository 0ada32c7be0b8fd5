// The timer benchmark on Node's setTimeout.
import { measure } from './timers-work.mjs';

const handles = [];
let fired = 0;
let expected = Infinity;
let over;

function onTimer() {
  if (++fired === expected) over();
}

await measure({
  add(index, ms) {
    handles[index] = setTimeout(onTimer, ms);
  },
  cancel(index) {
    clearTimeout(handles[index]);
  },
  fire(count) {
    return new Promise((resolve) => {
      over = () => {
        fired = 0;
        expected = Infinity;
        resolve();
      };
      expected = count;
    });
  },
});
