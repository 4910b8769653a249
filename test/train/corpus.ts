import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { utf8 } from '../../src/base/bytes.ts';

const FOLDER = join(import.meta.dirname, 'corpus');

export const LANGUAGES = ['en', 'fr', 'de', 'es', 'pt', 'ru', 'ar', 'zh'] as const;
export type Language = (typeof LANGUAGES)[number];

/** Sources that are chat. What models are judged by is held out of these only. */
const CHAT = new Set(['chat', 'chatterbot', 'chitchat']);
/** Of 256 lines of chat, how many are held out of training, by source: large ones give fewer. */
const HELD_OUT_OF_256: Readonly<Record<string, number>> = { chat: 64, chatterbot: 40, chitchat: 10 };

export interface Line {
  readonly source: string;
  readonly language: Language;
  readonly text: string;
  readonly bytes: Uint8Array;
}

export interface Corpus {
  readonly training: readonly Line[];
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

/** Reads the corpus, each text once, and divides it the same way each time. */
export function readCorpus(): Corpus {
  const training: Line[] = [];
  const heldOut: Line[] = [];
  const seen = new Set<string>();
  for (const file of readdirSync(FOLDER)
    .filter((name) => name.endsWith('.txt'))
    .sort()) {
    const [source, language] = file.split('.') as [string, Language];
    for (const text of readFileSync(join(FOLDER, file), 'utf8').split('\n')) {
      if (text === '' || seen.has(text)) continue;
      seen.add(text);
      const line = { source, language, text, bytes: utf8(text) };
      const held = CHAT.has(source) && hashByte(likeness(text)) < HELD_OUT_OF_256[source]!;
      (held ? heldOut : training).push(line);
    }
  }
  return { training, heldOut };
}
