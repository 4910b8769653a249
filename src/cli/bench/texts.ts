import { readFileSync } from 'node:fs';

/** Who says something, and what. */
export interface Said {
  readonly who: 'alice' | 'bob';
  readonly text: string;
}

const linesOf = (file: string): readonly string[] =>
  readFileSync(new URL(`held_out/${file}`, import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));

/** A conversation of 100 messages; `seed` is what decides the pauses in it. */
export function conversation(): { readonly seed: number; readonly messages: readonly Said[] } {
  const [first = '', ...lines] = linesOf('conversation.txt');
  const seed = Number(/^seed (\d+)$/.exec(first)?.[1]);
  const messages = lines.map((line): Said => {
    const [, who, text] = /^([ab]): (.+)$/.exec(line) ?? [];
    if (text === undefined) throw new Error(`conversation.txt: ${line}`);
    return { who: who === 'a' ? 'alice' : 'bob', text };
  });
  return { seed, messages };
}

/** Lines of chat in eight languages. */
export const chatLines = (): readonly string[] => linesOf('chat.txt');
