import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { hex } from '../../src/base/bytes.ts';
import { COMPACT_DICTIONARY, DICTIONARIES } from '../../src/compact/dictionary.ts';
import { sha256 } from '../../src/crypto/sha256.ts';
import { OWN_DICTIONARIES } from '../../src/exchange/agreed_form.ts';
import { documented, tables } from './protocol_tables.ts';

const text = readFileSync(new URL('../../docs/protocol.md', import.meta.url), 'utf8');

test('the tables of the compact form in docs/protocol.md are those of the code', () => {
  expect(documented()).toBe(tables());
});

test('docs/protocol.md names the dictionary of the compact form, and which ids are offered', () => {
  const dictionary = DICTIONARIES[COMPACT_DICTIONARY];
  expect(text).toContain(hex(sha256(dictionary)));
  expect(text).toContain(`${dictionary.length.toLocaleString('en')} bytes`);
  expect(text).toContain(`| 6 | the sender has dictionary ${OWN_DICTIONARIES.join(', ')} (the compact form)`);
});
