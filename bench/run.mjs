// Runs the benchmarks: each table in one session, its peers by turns. `npm run bench -- --help` tells the options.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { asData, asMarkdown, asText } from './figures.mjs';
import { describeMachine, Missing, pinned } from './session.mjs';

const NAMES = [
  'pipe',
  'idle',
  'echo',
  'http',
  'timers',
  'lateness',
  'signal',
  'spawn',
  'exits',
  'fork',
  'workers',
  'pool',
  'prefork',
  'supervisor',
];

const HELP = `Usage: npm run bench -- [options]

  --only NAMES       a comma list of ${NAMES.join(', ')}
  --repetitions N    how often each peer runs (default: each table's own number)
  --smoke            a short run of everything: proves that it runs, its figures mean nothing
  --json             print the samples as JSON
  --write            put the tables into docs/benchmarks.md, in the place of those of the same name
  --page FILE        --write into this page instead; what --smoke measures goes nowhere else
`;

const PAGE = fileURLToPath(new URL('../docs/benchmarks.md', import.meta.url));

function parse() {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      repetitions: { type: 'string' },
      smoke: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
      page: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const only = values.only?.split(',') ?? NAMES;
  const unknown = only.find((name) => !NAMES.includes(name));
  if (unknown !== undefined) throw new Error(`there is no benchmark "${unknown}": ${NAMES.join(', ')}`);
  const repetitions = values.repetitions === undefined ? undefined : Number(values.repetitions);
  if (repetitions !== undefined && !(Number.isInteger(repetitions) && repetitions > 0)) {
    throw new Error('--repetitions takes a number above 0');
  }
  if (values.smoke && values.write && values.page === undefined)
    throw new Error('the figures of --smoke mean nothing: it does not --write without --page');
  return {
    ...values,
    page: values.page ?? PAGE,
    only: NAMES.filter((name) => only.includes(name)),
    repetitions,
  };
}

/** Runs the peers of a table by turns, every other time backwards, and gives each one's samples, or why there are none. */
async function measure(table, repetitions) {
  const results = new Map();
  const runs = new Map();
  for (const { name, prepare } of table.peers) {
    results.set(name, { samples: [] });
    try {
      runs.set(name, await prepare());
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      results.set(name, { skipped: `skipped: ${error.message}` });
    }
  }
  for (let repetition = 0; repetition < repetitions; repetition++) {
    const order = [...runs.keys()];
    if (repetition % 2 === 1) order.reverse();
    for (const name of order) {
      progress(`${table.name} ${repetition + 1}/${repetitions}: ${name}`);
      try {
        results.get(name).samples.push(await runs.get(name)());
      } catch (error) {
        runs.delete(name);
        results.set(name, { failed: `failed: ${error.message}` });
      }
    }
  }
  progress('');
  return results;
}

/** One line that is overwritten, for somebody who watches. */
function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

const PREFACE = `# Benchmarks

\`npm run bench -- --write\` makes this page; nothing in it is written by hand. Each table comes from one session on one machine, its
peers run by turns. Look at the ratios (\`×\`): each is the median of the ratios of neighbouring runs, so they hold on
other machines as well, which absolute figures do not. The peers are programs of the same work, in \`bench/peers\`: "C epoll" is
written on the kernel's own calls and shows what can be had at all. CPU is the processor time of the process, user and
system, garbage collection included. A server and its client have a core each; a program without a client has one.

Under some tables stand the project's own demands: a bar that must be met, and an aim beyond it. Where one is missed,
the page says so.
`;

const SECTION = /<!-- (\S+) -->\n([\s\S]*?)\n<!-- end of \1 -->/g;

/** The page with these tables, each in the place of an older one of the same name; the others stay. */
function write(page, tables) {
  const sections = new Map();
  const old = existsSync(page) ? readFileSync(page, 'utf8') : '';
  for (const [, name, markdown] of old.matchAll(SECTION)) sections.set(name, markdown);
  for (const { name, markdown } of tables) sections.set(name, markdown);
  const place = ([name]) => NAMES.indexOf(name.split('-')[0]);
  const parts = [...sections]
    .sort((one, other) => place(one) - place(other))
    .map(([name, markdown]) => `<!-- ${name} -->\n${markdown}\n<!-- end of ${name} -->\n`);
  writeFileSync(page, [PREFACE, ...parts].join('\n'));
}

async function main() {
  const options = parse();
  if (options.help) {
    process.stdout.write(HELP);
    return;
  }
  if (process.platform !== 'linux') throw new Error('the benchmarks compare with epoll, so they need Linux');
  if (!existsSync(new URL('../dist/index.js', import.meta.url))) throw new Error('run `npm run build` first');
  if (!pinned)
    process.stderr.write('not pinned to cores: taskset (util-linux) and two cores are needed for that\n');

  const machine = describeMachine();
  const pages = [];
  const data = [];
  let failures = 0;
  for (const name of options.only) {
    const { tables } = await import(`./tables/${name}.mjs`);
    for (const table of tables({ smoke: options.smoke })) {
      const repetitions = options.smoke ? 1 : (options.repetitions ?? table.repetitions);
      const results = await measure(table, repetitions);
      for (const { failed } of results.values()) {
        if (failed === undefined) continue;
        failures++;
        process.stderr.write(`${failed}\n`);
      }
      pages.push({ name: table.name, markdown: asMarkdown(table, results, { machine, repetitions }) });
      data.push({ ...asData(table, results), repetitions });
      if (options.json) continue;
      if (options.smoke) {
        const word = ({ skipped, failed }) => skipped ?? failed?.split('\n')[0] ?? 'ran';
        for (const [peer, outcome] of results) console.log(`${table.name}: ${peer}: ${word(outcome)}`);
      } else {
        console.log(asText(table, results));
      }
    }
  }
  if (options.json) console.log(JSON.stringify({ machine, tables: data }, null, 2));
  if (options.write) write(options.page, pages);
  if (failures > 0) process.exitCode = 1;
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${error.message}\n`);
  process.exitCode = 2;
}
