import { readFileSync } from 'node:fs';

/** One operation of the Matrix specification. */
export interface Operation {
  readonly section: string;
  readonly module: string;
  readonly method: string;
  /** The path with `{parameters}`. */
  readonly template: string;
}

/** How an operation is named in the lists: `GET /_matrix/client/versions`. */
export const nameOf = ({ method, template }: Pick<Operation, 'method' | 'template'>): string =>
  `${method} ${template}`;

/** Every operation of version 1.19 of the specification. */
export const OPERATIONS: readonly Operation[] = rowsOf('endpoints.tsv').map(
  ([section = '', module = '', method = '', template = '']) => ({ section, module, method, template }),
);

/** The operations that are served, and the test file in this folder that shows it: see coverage.test.ts. */
export const SERVED: ReadonlyMap<string, string> = new Map(
  rowsOf('served.tsv').map(([method = '', template = '', file = '']) => [`${method} ${template}`, file]),
);

/** The operations that are not served, and why. */
export const NOT_SERVED: ReadonlyMap<string, string> = new Map(
  rowsOf('not_served.tsv').map(([method = '', template = '', reason = '']) => [
    `${method} ${template}`,
    reason,
  ]),
);

/** The rows of a list in `test/api`: columns between tabs, comments behind `#`. */
export function rowsOf(file: string): string[][] {
  return readFileSync(new URL(`../${file}`, import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split('\t'));
}

/** The operation that a request asks for; undefined where it is none of the specification's. */
export function operationOf(method: string, path: string): Operation | undefined {
  const segments = path.split('?', 1)[0]!.split('/');
  return OPERATIONS.filter((one) => one.method === method && fits(one.template.split('/'), segments)).sort(
    (a, b) => parametersOf(a.template) - parametersOf(b.template),
  )[0];
}

const isParameter = (segment: string): boolean => segment.startsWith('{');

const fits = (template: readonly string[], segments: readonly string[]): boolean =>
  template.length === segments.length &&
  template.every((part, at) => isParameter(part) || part === segments[at]);

const parametersOf = (template: string): number => template.split('/').filter(isParameter).length;
