import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { hex } from '../../src/base/bytes.ts';
import { DICTIONARIES } from '../../src/compact/dictionary.ts';
import { sha256 } from '../../src/crypto/sha256.ts';
import { documented, examples } from './protocol_examples.ts';

const text = readFileSync(new URL('../../docs/protocol.md', import.meta.url), 'utf8');

test('the examples in docs/protocol.md are what the code sends', () => {
  expect(documented()).toBe(examples());
});

test('docs/protocol.md names the dictionary that the code has', () => {
  expect(text).toContain(hex(sha256(DICTIONARIES[1])));
  expect(text).toContain(`${DICTIONARIES[1].length.toLocaleString('en')} bytes`);
});
