import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import type { Bytes, Row } from '../../src/cli/bench/scenario.ts';
import { chatLines } from '../../src/cli/bench/texts.ts';
import { measureWire, SCENARIOS } from '../../src/cli/bench/wire.ts';

/*
 * What `ravine bench wire` measures, without HTTPS: the same to the byte each time. The table may shrink without a word;
 * where a figure grows, or a scenario is lost, this fails. `UPDATE_SNAPSHOT=1` writes it anew.
 */
const SNAPSHOT = resolve(import.meta.dirname, 'wire.snapshot.md');

const HEADING = [
  '| | bytes, request / response or in all | median over 1,000 lines | 95th percentile |',
  '| --- | --: | --: | --: |',
];
const NOT_YET = 'not yet';

const cell = (bytes: Bytes | undefined): string => {
  if (bytes === undefined) return '';
  return 'total' in bytes ? String(bytes.total) : `${bytes.request} / ${bytes.response}`;
};

function render(rows: readonly Row[]): string {
  const lines = rows.map(({ id, bytes, notYet, spread }) => {
    const cells = [id, notYet === undefined ? cell(bytes) : NOT_YET, cell(spread?.median), cell(spread?.p95)];
    return `| ${cells.join(' | ')} |`;
  });
  return `${[...HEADING, ...lines].join('\n')}\n`;
}

/** The cells of each row by its id. */
const read = (table: string): Map<string, readonly string[]> =>
  new Map(
    table
      .trimEnd()
      .split('\n')
      .slice(HEADING.length)
      .map((line) => line.split('|').map((one) => one.trim()))
      .map(([, id = '', ...cells]) => [id, cells.slice(0, 3)]),
  );

/** What is worse than it was, one line each. */
function grown(before: string, now: string): string[] {
  const rows = read(now);
  return [...read(before)].flatMap(([id, cells]) =>
    cells.flatMap((was, column) => {
      const is = rows.get(id)?.[column];
      return isWorse(was, is) ? [`${id}: ${was} before, ${is ?? 'nothing'} now`] : [];
    }),
  );
}

function isWorse(was: string, is: string | undefined): boolean {
  if (was === NOT_YET || was === '') return is === undefined;
  const numbers = (text: string): number[] => text.split('/').map((one) => Number.parseInt(one, 10));
  const [before, now] = [numbers(was), numbers(is ?? '')];
  return before.some((one, i) => !((now[i] ?? Number.NaN) <= one));
}

it('costs on the wire no more than it did: `UPDATE_SNAPSHOT=1` writes the table anew', async () => {
  const rows = await measureWire(Object.keys(SCENARIOS), { https: false, texts: chatLines() });
  const table = render(rows);
  if (process.env.UPDATE_SNAPSHOT === '1') writeFileSync(SNAPSHOT, table);
  expect(grown(readFileSync(SNAPSHOT, 'utf8'), table), table).toEqual([]);
});

it.each([
  ['a figure that grows', '| W1 | 74 / 70 | | |', '| W1 | 74 / 71 | | |', 1],
  [
    'a percentile that grows',
    '| W1 | 74 / 70 | 80 / 70 | 90 / 70 |',
    '| W1 | 74 / 70 | 80 / 70 | 91 / 70 |',
    1,
  ],
  ['a scenario that is lost', '| W1 | 74 / 70 | | |', '| W2 | 74 / 70 | | |', 3],
  ['a scenario that cannot be done any more', '| W1 | 74 / 70 | | |', '| W1 | not yet | | |', 1],
  ['a figure that shrinks', '| W1 | 74 / 70 | | |', '| W1 | 73 / 70 | | |', 0],
  ['a scenario that can be done now', '| W1 | not yet | | |', '| W1 | 740 / 70 | | |', 0],
])('tells %s', (_, before, now, expected) => {
  const table = (line: string): string => `${[...HEADING, line].join('\n')}\n`;
  expect(grown(table(before), table(now))).toHaveLength(expected);
});
