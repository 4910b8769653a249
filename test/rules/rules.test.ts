import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { RULES, type Rule } from './rules.ts';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const security = read('docs/security.md');

/** A row of the table in docs/security.md for each sentence. */
const rowsOf = ({ name, shown }: Rule): string[] =>
  shown.map(({ sentence, tests }, i) => {
    const files = [...new Set(tests.map(([file]) => file))].map(
      (file) => `\`${file.slice('test/'.length)}\``,
    );
    return `| ${i === 0 ? name : ''} | ${sentence} | ${files.join(', ')} |`;
  });

describe.each(RULES)('rule $name', (rule) => {
  it.each(rule.shown)('$sentence: is shown by tests that there are', ({ tests }) => {
    for (const [file, title] of tests) expect(read(file), `${file}: ${title}`).toContain(title);
  });

  it('is in docs/security.md with the files that show it', () => {
    for (const row of rowsOf(rule)) expect(security).toContain(row);
  });
});
