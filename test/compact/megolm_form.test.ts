import { expect, test } from 'vitest';
import { decodeCompact, encodeCompact } from '../../src/compact/value.ts';
import type { JsonValue } from '../../src/matrix/json.ts';

const CIPHERTEXT = Buffer.from(Array.from({ length: 222 }, (_, i) => (i * 7919) % 251)).toString('base64');
const SESSION = 'X3lUlvLELLYxeTx4yOVu6UDpasGEVO0Jbu+QFnm0cKQ';
const content = { algorithm: 'm.megolm.v1.aes-sha2', ciphertext: CIPHERTEXT, session_id: SESSION };

test('an encrypted content is its ciphertext, its session and four bytes', () => {
  const bytes = encodeCompact(content, {});
  expect(bytes.length).toBe(222 + 33 + 3);
  expect(decodeCompact(bytes, {})).toEqual({ ok: true, value: content });
});

test.each<[string, JsonValue]>([
  ['another algorithm', { ...content, algorithm: 'm.olm.v1.curve25519-aes-sha2' }],
  ['another order', { ciphertext: CIPHERTEXT, algorithm: content.algorithm, session_id: SESSION }],
  ['a further key', { ...content, sender_key: 'abc' }],
  ['a ciphertext that is no canonical base64', { ...content, ciphertext: `${CIPHERTEXT.slice(0, -1)}_` }],
  ['a padded ciphertext', { ...content, ciphertext: `${CIPHERTEXT.slice(0, -3)}A==` }],
  ['an empty ciphertext', { ...content, ciphertext: '' }],
  ['a session that is a number', { ...content, session_id: 7 }],
  ['a session that is a text of digits', { ...content, session_id: '7' }],
])('an encrypted content with %s comes back character by character', (_, value) => {
  const back = decodeCompact(encodeCompact(value, {}), {});
  expect(back.ok && JSON.stringify(back.value)).toBe(JSON.stringify(value));
});
