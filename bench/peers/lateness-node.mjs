// How late Node's setTimeout fires.
import { measure } from './lateness-work.mjs';

let over;

await measure({
  start: (ms, callback) => setTimeout(callback, ms),
  run: () =>
    new Promise((resolve) => {
      over = resolve;
    }),
  stop: () => over(),
});
