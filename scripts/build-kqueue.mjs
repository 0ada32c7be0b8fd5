/**
 * Builds the addon for Linux with the kqueue backend in it, over the emulation in test/native/kqueue, and the native
 * tests of both, into build-kqueue/ (npm run build:kqueue). There `Loop.backends` is epoll, kqueue, poll;
 * FORKBEARD_NATIVE=build-kqueue runs anything on it. Other systems have nothing to emulate, or to emulate it with.
 */
import { buildNative } from './build-native.mjs';

if (process.platform === 'linux') {
  buildNative({ out: 'build-kqueue', args: ['--kqueue_emulation=true', ...process.argv.slice(2)] });
} else {
  console.log('build-kqueue: only Linux needs it');
}
