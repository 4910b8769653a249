import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CLAUSES } from './clauses.ts';

describe('the list of clauses', () => {
  it('names each clause once', () => {
    const ids = CLAUSES.map(({ id }) => id);
    expect(ids.filter((id, at) => ids.indexOf(id) !== at)).toEqual([]);
    const gists = CLAUSES.map(({ rfc, section, gist }) => `${rfc} ${section} ${gist}`);
    expect(gists.filter((gist, at) => gists.indexOf(gist) !== at)).toEqual([]);
  });

  it('has a test or a reason for each, never both', () => {
    const wrong = CLAUSES.filter(
      ({ testedIn, notApplicable }) => (testedIn === null) === (notApplicable === null),
    );
    expect(wrong).toEqual([]);
  });

  it('names test files that exist, each of which knows what it misses', () => {
    const files = new Set(CLAUSES.flatMap(({ testedIn }) => testedIn ?? []));
    expect(files.size).toBeGreaterThanOrEqual(3);
    expect([...files].filter((file) => !existsSync(resolve(import.meta.dirname, file)))).toEqual([]);
  });

  it('reaches over sections 3 to 5 of RFC 7252, RFC 7641 and RFC 7959', () => {
    const chapters = (rfc: number): string[] => [
      ...new Set(CLAUSES.filter((one) => one.rfc === rfc).map(({ section }) => section.split('.')[0]!)),
    ];
    expect(chapters(7252)).toEqual(['3', '4', '5']);
    expect(chapters(7641).sort()).toEqual(['2', '3', '4', '5', '6', '7']);
    expect(chapters(7959)).toEqual(['2', '4']);
  });
});
