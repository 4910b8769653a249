import { forLine, forTerminal } from '../coap/render.ts';
import { jsonTime } from '../output.ts';
import type { Given } from './input.ts';
import { type Explained, type Part, sizeOf } from './parts.ts';

/** A datagram and what it is. */
export interface Told {
  readonly given: Given;
  readonly explained: Explained;
}

/** What it takes on the wire. */
export const wireOf = ({ layers }: Explained): number => sizeOf(layers);

/** The datagram in one line, and one for each of its parts. */
export function toText({ given, explained }: Told): string {
  const { at, from, to, comment } = given;
  const around = [
    ...(at === undefined ? [] : [timeOf(at)]),
    ...(from === undefined ? [] : [`${from} -> ${to}`]),
    `${wireOf(explained)} B`,
    explained.what,
    ...(comment === undefined ? [] : [`"${comment}"`]),
  ];
  const lines = explained.layers.flatMap(({ name, bytes, parts }) => [
    `  ${String(bytes).padStart(5)}  ${name}`,
    ...parts.flatMap((part) => partLines(part)),
  ]);
  return [forLine(around.join('  ')), ...lines.map((line) => forTerminal(line).trimEnd())].join('\n');
}

const BRACKETED = 7;

function partLines({ name, value, bytes, inside = [] }: Part, isInside = false): readonly string[] {
  const size = (isInside ? `(${bytes})` : String(bytes)).padStart(isInside ? BRACKETED : BRACKETED - 2);
  return [
    `         ${size}  ${name.padEnd(isInside ? 22 : 24)}  ${forLine(value)}`,
    ...inside.flatMap((part) => partLines(part, true)),
  ];
}

/** A capture may say anything of the time: empty where it is none. */
export const timeOf = (at: number): string => (Math.abs(at) < 8.64e15 ? jsonTime(at) : '');
