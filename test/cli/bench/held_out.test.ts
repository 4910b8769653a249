import { describe, expect, it } from 'vitest';
import { HELLO } from '../../../src/cli/bench/scenarios/hello.ts';
import { chatLines, conversation } from '../../../src/cli/bench/texts.ts';
import { readCorpus } from '../../train/corpus.ts';

/** Texts that differ in case and punctuation only are the same here. */
const likeness = (text: string): string =>
  text
    .toLowerCase()
    .replace(/[\p{P}\p{Z}\p{S}]+/gu, ' ')
    .trim();

const trained = new Set(readCorpus().training.map(({ text }) => likeness(text)));
const occurring = (texts: readonly string[]): string[] => texts.filter((text) => trained.has(likeness(text)));

describe('what the wire is measured with', () => {
  it('has a conversation of 100 messages, none of them twice, of two people', () => {
    const { messages } = conversation();
    expect(messages).toHaveLength(100);
    expect(new Set(messages.map(({ text }) => likeness(text))).size).toBe(100);
    expect(new Set(messages.map(({ who }) => who))).toEqual(new Set(['alice', 'bob']));
  });

  it('has 1,000 lines of chat, none of them twice', () => {
    expect(new Set(chatLines()).size).toBe(1000);
    expect(chatLines()).toHaveLength(1000);
  });

  it('does not occur in what models and dictionaries are made from', () => {
    expect(trained.size).toBeGreaterThan(10_000);
    expect(occurring([...chatLines(), ...conversation().messages.map(({ text }) => text), HELLO])).toEqual(
      [],
    );
  });

  it('would notice if it did', () => {
    const [line] = readCorpus().training;
    expect(occurring([line!.text.toUpperCase()])).toHaveLength(1);
  });
});
