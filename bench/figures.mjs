// From samples to what is printed: medians, ratios, bars and whether they are met, as text and as Markdown. Used by run.mjs.
// A ratio is taken repetition by repetition, between runs that stood next to each other, and the median of those
// ratios is shown: a machine that is busier for a while then slows both sides of a ratio.

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function figureOf(results, peer, { key, of }) {
  const samples = results.get(peer)?.samples;
  if (samples === undefined) return undefined;
  if (of === undefined) return median(samples.map((sample) => sample[key]));
  const base = results.get(of)?.samples;
  if (base === undefined) return undefined;
  const pairs = Math.min(samples.length, base.length);
  return median(samples.slice(0, pairs).map((sample, index) => sample[key] / base[index][key]));
}

const format = (value, digits) => (value === undefined ? '–' : value.toFixed(digits));

export function rowsOf(table, results) {
  return table.peers.map(({ name }) => {
    const { skipped, failed } = results.get(name);
    const word = skipped ?? failed;
    if (word !== undefined) return [name, word.split('\n')[0]];
    return [name, ...table.columns.map((column) => format(figureOf(results, name, column), column.digits))];
  });
}

/** Each bar with the figure it is about; `met` is undefined where a peer was missing. */
export function barsOf(table, results) {
  return table.bars.map((bar) => {
    const value = figureOf(results, bar.peer, bar);
    const meets = ({ atMost, atLeast }) =>
      (atMost === undefined || value <= atMost) && (atLeast === undefined || value >= atLeast);
    return {
      ...bar,
      value,
      met: value === undefined ? undefined : meets(bar),
      aimMet: value === undefined || bar.aim === undefined ? undefined : meets(bar.aim),
    };
  });
}

function limits({ atMost, atLeast }, digits) {
  if (atMost !== undefined && atLeast !== undefined)
    return `${format(atLeast, digits)} to ${format(atMost, digits)}`;
  if (atMost !== undefined) return `≤ ${format(atMost, digits)}`;
  return atLeast === undefined ? '–' : `≥ ${format(atLeast, digits)}`;
}

function verdict(bar) {
  if (bar.value === undefined) return 'not measured';
  const words = [];
  if (bar.atMost !== undefined || bar.atLeast !== undefined) words.push(bar.met ? 'met' : '**missed**');
  if (bar.aim !== undefined && bar.met) words.push(bar.aimMet ? 'aim met' : 'aim missed');
  return words.join(', ');
}

function barRow(bar) {
  return [
    bar.peer,
    bar.what,
    format(bar.value, bar.digits),
    limits(bar, bar.digits),
    limits(bar.aim ?? {}, bar.digits),
    verdict(bar),
  ];
}

const BAR_HEAD = ['peer', 'figure', 'measured', 'bar', 'aim', ''];

function textGrid(rows) {
  const widths = [];
  for (const row of rows) {
    if (row.length === 2 && rows[0].length > 2) continue; // a word instead of figures
    row.forEach((cell, index) => {
      widths[index] = Math.max(widths[index] ?? 0, cell.length);
    });
  }
  for (const [name] of rows) widths[0] = Math.max(widths[0], name.length);
  return rows
    .map((row) =>
      row
        .map((cell, index) => (index === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[index])))
        .join('  '),
    )
    .join('\n');
}

function markdownGrid(rows, leftColumns) {
  const width = rows[0].length;
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const rule = rows[0].map((_, index) => (index < leftColumns ? '---' : '---:'));
  const padded = rows.map((row) => [...row, ...Array(width - row.length).fill('')]);
  return [line(padded[0]), line(rule), ...padded.slice(1).map(line)].join('\n');
}

function grids(table, results) {
  return {
    figures: [['peer', ...table.columns.map(({ title }) => title)], ...rowsOf(table, results)],
    bars: [BAR_HEAD, ...barsOf(table, results).map(barRow)],
  };
}

export function asText(table, results) {
  const { figures, bars } = grids(table, results);
  const parts = [table.title, textGrid(figures)];
  if (bars.length > 1) parts.push(textGrid(bars).replaceAll('**', ''));
  return `${parts.join('\n\n')}\n`;
}

export function asMarkdown(table, results, { machine, repetitions }) {
  const { figures, bars } = grids(table, results);
  const parts = [
    `## ${table.title}`,
    table.what,
    markdownGrid(figures, 1),
    `${repetitions === 1 ? 'One run of each' : `Medians of ${repetitions} runs of each`}. Node ${machine.node}, ${machine.kernel}, ${machine.cpu}, ${machine.date}.`,
  ];
  if (bars.length > 1) parts.push(markdownGrid(bars, 2));
  return parts.join('\n\n');
}

export function asData(table, results) {
  return {
    table: table.name,
    title: table.title,
    peers: table.peers.map(({ name }) => ({ name, ...results.get(name) })),
    bars: barsOf(table, results).map(({ peer, what, value, atMost, atLeast, met, aimMet }) => ({
      peer,
      what,
      value,
      atMost,
      atLeast,
      met,
      aimMet,
    })),
  };
}
