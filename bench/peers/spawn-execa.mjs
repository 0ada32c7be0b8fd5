// Spawns with execa.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { measure } from './spawn-work.mjs';

const { resolve } = createRequire(new URL('npm/package.json', import.meta.url));
const { execa } = await import(pathToFileURL(resolve('execa')));
await measure((onExit) => {
  execa('/bin/true', { stdio: 'inherit' }).then(onExit);
});
