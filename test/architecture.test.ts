import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

const src = resolve(import.meta.dirname, '../src');
const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));

/**
 * ARCHITECTURE.md, "The rooms of the house": which rooms each room may import, besides itself and `base`. The table in
 * the document is what is enforced, so the two cannot differ.
 */
const MAY_IMPORT = readTable(readFileSync(resolve(src, '../ARCHITECTURE.md'), 'utf8'));

function readTable(text: string): Map<string, ReadonlySet<string>> {
  const table = new Map<string, ReadonlySet<string>>();
  for (const [, room, cell] of text.matchAll(/^\| `(\w+)` *\| [^|]* \| ([^|]*) \|$/gm)) {
    const above = [...table.keys()];
    const names = cell!.trim().startsWith('everything')
      ? above
      : cell!.trim() === '-'
        ? []
        : cell!.split(',').map((name) => name.trim().replace(/ \(types\)$/, ':types'));
    table.set(room!, new Set(names));
  }
  return table;
}

/** What only `base/` may touch: the clock and the dice. */
const CLOCKS_AND_DICE =
  /\bDate\.now\b|\bnew Date\(\)|\bperformance\.now\b|\bset(?:Timeout|Interval|Immediate)\b|\bAbortSignal\.timeout\b|\bMath\.random\b|\brandom(?:Bytes|UUID|FillSync|Int)\b|\bhrtime\b|\bCURRENT_TIMESTAMP\b|\bunixepoch\(|\bdatetime\('now|\bstrftime\(|\brandom\(\)/;

/** Rooms that hold pure machines and rules, and the packages that they may import: no socket, timer or web framework. */
const PURE: Readonly<Record<string, readonly string[]>> = {
  coap: [],
  noise: [],
  pipe: [],
  compact: ['fflate'],
  exchange: [],
  matrix: [],
};

interface Import {
  readonly file: string;
  readonly specifier: string;
  readonly typeOnly: boolean;
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(src, file), 'utf8');
  const pattern =
    /^\s*(?:import|export)\s+(type\s)?[^'";]*?from\s+'([^']+)'|\bimport\(\s*'([^']+)'\s*\)|^\s*import\s+'([^']+)'/gms;
  return [...text.matchAll(pattern)].map((match) => ({
    file,
    specifier: (match[2] ?? match[3] ?? match[4])!,
    typeOnly: match[1] !== undefined,
  }));
}

const roomOf = (file: string): string => file.split('/')[0]!;

/** The code without comments and strings, so that prose may name what code may not use. */
function codeOf(file: string): string {
  return readFileSync(join(src, file), 'utf8')
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/(^|\s)\/\/.*$/gm, '');
}

describe('the plan of the house', () => {
  it('has a line for every folder of src', () => {
    expect(files.map(roomOf).filter((room) => !MAY_IMPORT.has(room))).toEqual([]);
  });

  it('lets imports point only where the table says', () => {
    const wrong = files.flatMap((file) =>
      importsOf(file)
        .filter(({ specifier }) => specifier.startsWith('.'))
        .filter(({ specifier, typeOnly }) => {
          const from = roomOf(file);
          const to = roomOf(relative(src, resolve(src, file, '..', specifier)));
          if (to === from || to === 'base') return false;
          const allowed = MAY_IMPORT.get(from) ?? new Set();
          return !(allowed.has(to) || (typeOnly && allowed.has(`${to}:types`)));
        })
        .map(({ specifier }) => `${file} imports ${specifier}`),
    );
    expect(wrong).toEqual([]);
  });

  it('keeps the clock and the dice in base', () => {
    const wrong = files
      .filter((file) => roomOf(file) !== 'base')
      .flatMap((file) => {
        const found = CLOCKS_AND_DICE.exec(codeOf(file));
        return found === null ? [] : [`${file}: ${found[0]}`];
      });
    expect(wrong).toEqual([]);
  });

  it('keeps sockets, timers and the web framework out of the machines and the rules', () => {
    const wrong = files.flatMap((file) => {
      const allowed = PURE[roomOf(file)];
      if (allowed === undefined) return [];
      return importsOf(file)
        .filter(({ specifier }) => !specifier.startsWith('.') && !allowed.includes(specifier))
        .map(({ specifier }) => `${file} imports ${specifier}`);
    });
    expect(wrong).toEqual([]);
  });

  it('reads the whole table', () => {
    expect(MAY_IMPORT.size).toBeGreaterThanOrEqual(17);
    expect(MAY_IMPORT.get('pipe')).toEqual(new Set(['crypto', 'coap', 'noise', 'link:types']));
  });
});
