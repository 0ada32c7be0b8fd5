// Builds the addon with node-gyp against the headers of the Node that runs this script.
// Extra arguments are handed to node-gyp, so gyp variables can be set: npm run build:native -- --kqueue_include=…
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const prefix = join(dirname(process.execPath), '..');
const nodedir = process.env.npm_config_nodedir ?? prefix;
const nodeGyp = createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');
const args = ['rebuild', `--jobs=${process.env.JOBS ?? 'max'}`, ...process.argv.slice(2)];
if (existsSync(join(nodedir, 'include/node/node_api.h'))) args.push(`--nodedir=${nodedir}`);
const { status } = spawnSync(process.execPath, [nodeGyp, ...args], { cwd: root, stdio: 'inherit' });
process.exit(status ?? 1);
