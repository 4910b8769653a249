import { LANGUAGES, type Line } from './corpus.ts';

/** How far back Deflate sees (RFC 1951). */
const WINDOW_BYTES = 32 * 1024;

/**
 * Text for a preset dictionary of Deflate: chat of all languages in turn, each line once, the first ones of each
 * language last, where a copy costs fewest bits.
 */
export function presetDictionary(training: readonly Line[]): string {
  const chat = training.filter(({ source }) => source.startsWith('chat'));
  // Lines written for this corpus before those of other sources.
  chat.sort((a, b) => rank(a) - rank(b));
  const queues = LANGUAGES.map((language) => chat.filter((line) => line.language === language));
  const chosen: string[] = [];
  let bytes = 0;
  for (let turn = 0; bytes < WINDOW_BYTES; turn++) {
    let found = false;
    for (const queue of queues) {
      const line = queue[turn];
      if (line === undefined) continue;
      found = true;
      bytes += line.bytes.length + 1;
      if (bytes <= WINDOW_BYTES) chosen.push(line.text);
    }
    if (!found) break;
  }
  return `${chosen.reverse().join('\n')}\n`;
}

const rank = ({ source }: Line): number => (source === 'chat' ? 0 : source === 'chatterbot' ? 1 : 2);
