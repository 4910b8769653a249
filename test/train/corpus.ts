import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { utf8 } from '../../src/base/bytes.ts';

const FOLDER = join(import.meta.dirname, 'corpus');

export const LANGUAGES = ['en', 'fr', 'de', 'es', 'pt', 'ru', 'ar', 'zh'] as const;
export type Language = (typeof LANGUAGES)[number];

/** Of 256 lines of chat, how many are held out of training, by source: large ones give fewer. Others give none. */
const HELD_OUT_OF_256: Readonly<Record<string, number>> = { chat: 72, chatterbot: 46, chitchat: 12 };

export interface Line {
  readonly source: string;
  readonly language: Language;
  readonly text: string;
  readonly bytes: Uint8Array;
}

export interface Corpus {
  readonly training: readonly Line[];
  /** Chat to train on as well, but only where it is said in requests and events. */
  readonly said: readonly Line[];
  /** Never seen by training; chosen by the hash of the line. */
  readonly heldOut: readonly Line[];
}

/** What a line is compared by: two that differ in case and punctuation only are not held apart. */
const likeness = (text: string): string =>
  text
    .toLowerCase()
    .replace(/[\p{P}\p{Z}\p{S}]+/gu, ' ')
    .trim();

const hashByte = (text: string): number => createHash('sha256').update(text).digest()[0]!;

/** Of 256 further lines of chat, how many are said in events, by source. */
const SAID_OF_256: Readonly<Record<string, number>> = { chat: 24, chatterbot: 24, chitchat: 12 };

/** What the scenarios of the benchmarks say: nothing that they are judged by is trained on. */
const SCENARIOS = /^hello,? world\b|^hello\?$/i;

/** Reads the corpus, each text once, and divides it the same way each time. */
export function readCorpus(): Corpus {
  const lines = new Map<string, Line>();
  for (const file of readdirSync(FOLDER)
    .filter((name) => name.endsWith('.txt'))
    .sort()) {
    const [source, language] = file.split('.') as [string, Language];
    for (const text of readFileSync(join(FOLDER, file), 'utf8').split('\n')) {
      if (text === '' || SCENARIOS.test(text) || lines.has(text)) continue;
      lines.set(text, { source, language, text, bytes: utf8(text) });
    }
  }
  const heldOut = new Map<string, Line>();
  for (const line of lines.values()) {
    const like = likeness(line.text);
    const share = HELD_OUT_OF_256[line.source] ?? 0;
    if (like !== '' && hashByte(like) < share && !heldOut.has(like)) heldOut.set(like, line);
  }
  const rest = [...lines.values()].filter(({ text }) => !heldOut.has(likeness(text)));
  const isSaid = ({ source, text }: Line): boolean =>
    createHash('sha256').update(text).digest()[1]! < (SAID_OF_256[source] ?? 0);
  return {
    training: rest.filter((line) => !isSaid(line)),
    said: rest.filter(isSaid),
    heldOut: [...heldOut.values()],
  };
}
