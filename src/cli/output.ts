import type { Millis } from '../base/time.ts';
import { fingerprintGroups, fingerprintWords } from '../federation/fingerprints.ts';

const WORDS_PER_LINE = 8;
const GROUPS_PER_LINE = 8;

/** Columns as wide as what is in them, two spaces apart; the first row is the heading. */
export function textTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Labels and values, aligned; values of several lines go on below each other. */
export function textFields(fields: readonly (readonly [string, string])[]): string {
  const width = Math.max(...fields.map(([label]) => label.length)) + 2;
  return fields
    .map(([label, value]) => label.padEnd(width) + value.replaceAll('\n', `\n${' '.repeat(width)}`))
    .join('\n');
}

/** Others' text without what moves a terminal's cursor. */
export const printable = (text: string): string => text.replaceAll(/\p{Cc}/gu, '\ufffd');

/** Unix time in milliseconds as `2030-01-31 12:00`, in UTC. */
export const textTime = (at: Millis): string => new Date(at).toISOString().slice(0, 16).replace('T', ' ');

export const jsonTime = (at: Millis): string => new Date(at).toISOString();

/** A fingerprint for comparing by eye, over two lines. */
export const groupLines = (fingerprint: string): string =>
  inLines(fingerprintGroups(fingerprint).split(' '), GROUPS_PER_LINE);

/** A fingerprint for comparing by voice, over two lines. */
export const wordLines = (fingerprint: string): string =>
  inLines(fingerprintWords(fingerprint), WORDS_PER_LINE);

function inLines(parts: readonly string[], perLine: number): string {
  const lines: string[] = [];
  for (let at = 0; at < parts.length; at += perLine) lines.push(parts.slice(at, at + perLine).join(' '));
  return lines.join('\n');
}

export const printJson = (value: unknown): void => console.log(JSON.stringify(value, null, 2));
