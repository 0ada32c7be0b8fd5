/**
 * Packs the package as it would be published, installs the tarball without scripts into an empty project, and uses it
 * there: by import, by require(), in a Worker and from TypeScript, on every tested Node; as a server, by its door and by
 * its command; what it says where it cannot work; and a build from its own sources. Needs a prebuilt binary for this machine (npm run prebuilds).
 *
 *   node scripts/check-package.mjs [major …]     default: every tested Node
 */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeGyp, root } from './build-native.mjs';
import { nodeBinary, versions } from './node-versions.mjs';

const here = mkdtempSync(join(tmpdir(), 'forkbeard-package-'));
try {
  await check(process.argv.length > 2 ? process.argv.slice(2) : Object.keys(versions));
} catch (error) {
  console.error(`check-package: ${error.message}`);
  process.exitCode = 1;
} finally {
  rmSync(here, { recursive: true, force: true });
}

async function check(majors) {
  const tarball = pack();
  run('publint', bin('publint'), ['run', tarball, '--strict']);
  run('attw', bin('attw'), [tarball, '--profile', 'esm-only', '--format', 'ascii', '--no-emoji']);

  const project = join(here, 'project');
  const installed = join(project, 'node_modules/forkbeard');
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }');
  cpSync(join(root, 'test/package'), project, { recursive: true });
  run(
    'npm install',
    'npm',
    ['install', '--ignore-scripts', '--prefer-offline', '--loglevel=error', tarball],
    project,
  );
  declarations(project);

  for (const major of majors) {
    const { path, version } = await nodeBinary(major);
    const programs = ['esm.mjs', 'require.cjs', 'worker.mjs', 'unload.mjs', 'fork.mjs'];
    for (const program of programs) run(`Node ${version}, ${program}`, path, [program], project);
    const permission = Number(major) < 22 ? '--experimental-permission' : '--permission';
    const withRead = [permission, '--allow-fs-read=*'];
    refuses(path, ['--no-addons'], project, 'ERR_FORKBEARD_ADDONS_DISABLED', '--no-addons');
    refuses(path, withRead, project, 'ERR_FORKBEARD_ADDONS_DISABLED', '--allow-addons');
    run(`Node ${version}, --allow-addons`, path, [...withRead, '--allow-addons', 'require.cjs'], project);
  }

  const command = join(project, 'node_modules/.bin/forkbeard');
  run('forkbeard doctor', command, ['doctor'], project);
  run('forkbeard serve', process.execPath, ['serve.mjs', command], project);

  // Package managers that run node-gyp in spite of "gypfile": false find nothing to build.
  nodeGyp(installed, ['configure', 'build', '--loglevel=error'], { fromSource: false });
  if (existsSync(join(installed, 'build/Release/forkbeard.node')))
    throw new Error('It built beside its prebuilt binary');
  rmSync(join(installed, 'prebuilds'), { recursive: true });
  refuses(process.execPath, [], project, 'ERR_FORKBEARD_NO_BINARY', 'node-gyp rebuild');
  nodeGyp(installed, ['rebuild', '--loglevel=error'], { fromSource: false });
  run('built from the tarball', process.execPath, ['worker.mjs'], project);
}

function pack() {
  execFileSync('npm', ['pack', '--silent', `--pack-destination=${here}`], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const tarball = join(
    here,
    readdirSync(here).find((name) => name.endsWith('.tgz')),
  );
  const files = execFileSync('tar', ['tzf', tarball], { encoding: 'utf8' }).trim().split('\n');
  const has = (pattern) => files.some((file) => pattern.test(file));
  const { platform, arch } = process;
  const needed = [
    /^package\/dist\/index\.js$/,
    /^package\/dist\/index\.d\.ts$/,
    /^package\/dist\/prefork\/index\.(js|d\.ts)$/,
    /^package\/dist\/supervisor\/index\.(js|d\.ts)$/,
    /^package\/dist\/prefork\/worker\/entry\.js$/,
    /^package\/docs\/deployment\/forkbeard-app\.service$/,
    /^package\/lib\/index\.ts$/,
    /^package\/native\/addon\.cc$/,
    /^package\/binding\.gyp$/,
    /^package\/(README|CHANGELOG)\.md$/,
    /^package\/LICENSE$/,
    new RegExp(`^package/prebuilds/${platform}-${arch}/forkbeard\\b[^/]*\\.node$`),
    new RegExp(`^package/prebuilds/${platform}-${arch}/forkbeard-shim\\b`),
  ];
  for (const pattern of needed) if (!has(pattern)) throw new Error(`The tarball has no ${pattern}`);
  if (has(/^package\/(test|bench|build|node_modules|scripts)/))
    throw new Error('The tarball has what it should not');
  console.log(`tarball: ${files.length} files`);
  return tarball;
}

/** Declarations must hold for users who do not skip their check, in both module systems that TypeScript knows today. */
function declarations(project) {
  mkdirSync(join(project, 'node_modules/@types'));
  for (const name of ['@types/node', 'undici-types']) {
    symlinkSync(join(root, 'node_modules', name), join(project, 'node_modules', name));
  }
  const strict = ['--noEmit', '--strict', '--skipLibCheck', 'false', '--target', 'es2022', '--types', 'node'];
  for (const [module, resolution] of [
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ]) {
    const system = ['--module', module, '--moduleResolution', resolution];
    run(`TypeScript, ${resolution}`, bin('tsc'), [...strict, ...system, 'consumer.mts'], project);
  }
}

function run(what, program, args, cwd = root) {
  try {
    const env = { ...process.env };
    // What the checkout's own tests set must not decide here.
    delete env.FORKBEARD_NATIVE;
    execFileSync(program, args, {
      cwd,
      env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 120_000,
    });
    console.log(`${what}: good`);
  } catch (error) {
    throw new Error(`${what} failed\n${error.stdout ?? ''}${error.stderr ?? error.message}`);
  }
}

/** Importing the package with these flags must fail with this code and tell the remedy. */
function refuses(node, flags, project, code, remedy) {
  const source = `import('forkbeard').then(() => console.log('loaded'), (error) => console.log(error.code + ' ' + error.message))`;
  const said = execFileSync(node, [...flags, '-e', source], {
    cwd: project,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  if (!said.startsWith(code) || !said.includes(remedy)) throw new Error(`${flags.join(' ')} gave: ${said}`);
  console.log(`${flags.join(' ') || 'no binary'}: ${code}`);
}

function bin(name) {
  return join(root, 'node_modules/.bin', name);
}
