import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalJson } from '../../src/matrix/canonical_json.ts';
import { MAX_PDU_BYTES, MAX_PDU_NESTING, parsePdu, pduBytes } from '../../src/matrix/event_format.ts';
import type { KeyId, RoomId, ServerName } from '../../src/matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { signEvent, signingKey } from '../../src/matrix/signing.ts';
import { createEvent, makeEvent, user, v12 } from './rooms.ts';

const key = signingKey('ed25519:1' as KeyId, new Uint8Array(32).fill(1));
const event = signEvent(
  makeEvent({ room_id: '!room' as RoomId, state_key: '', content: { a: [1, { b: null }] } }).pdu,
  v12,
  'alice.example' as ServerName,
  key,
);
const pdu = event.pdu as unknown as JsonObject;
const without = (name: string): JsonObject =>
  Object.fromEntries(Object.entries(pdu).filter(([field]) => field !== name));
const ids = (count: number): string[] => Array.from({ length: count }, (_, i) => `$${i}`);

describe('parsing a PDU', () => {
  it('gives the event back with the id and the room that it computes', () => {
    expect(parsePdu(JSON.parse(JSON.stringify(pdu)), v12)).toEqual({ ok: true, value: event });
    const create = createEvent();
    expect(parsePdu(create.pdu, v12)).toEqual({ ok: true, value: create });
  });

  it('keeps keys that it does not know, since the hashes cover them', () => {
    const result = parsePdu({ ...pdu, origin: 'x' }, v12);
    expect(result.ok && result.value.pdu).toEqual({ ...pdu, origin: 'x' });
  });

  it.each([
    'type',
    'sender',
    'room_id',
    'content',
    'origin_server_ts',
    'depth',
    'prev_events',
    'auth_events',
    'hashes',
    'signatures',
  ])('refuses one without %s', (name) => expect(parsePdu(without(name), v12).ok).toBe(false));

  it.each<JsonObject>([
    { type: 1 },
    { type: 'a'.repeat(256) },
    { type: 'é'.repeat(128) },
    { state_key: null },
    { state_key: 'a'.repeat(256) },
    { sender: 'alice' },
    { sender: 1 },
    { room_id: 'room' },
    { room_id: null },
    { content: [] },
    { content: { x: 1.5 } },
    { content: { x: 2 ** 53 } },
    { content: { x: '\ud800' } },
    { unsigned: 1 },
    { origin_server_ts: '1' },
    { origin_server_ts: 1.5 },
    { depth: -1 },
    { depth: 2 ** 53 },
    { depth: 1.5 },
    { prev_events: ids(21) },
    { prev_events: ['x'] },
    { prev_events: [['$x', {}]] },
    { prev_events: {} },
    { auth_events: ids(11) },
    { auth_events: [1] },
    { hashes: { md5: 'x' } },
    { hashes: { sha256: 1 } },
    { signatures: [] },
    { signatures: { 'a.example': 'text' } },
    { signatures: { 'a.example': { 'ed25519:1': 1 } } },
  ])('refuses %j', (change) => expect(parsePdu({ ...pdu, ...change }, v12).ok).toBe(false));

  it.each<JsonObject>([
    { type: 'a'.repeat(255) },
    { type: '' },
    { state_key: 'é'.repeat(127) },
    { depth: 2 ** 53 - 1 },
    { depth: 0 },
    { prev_events: ids(20), auth_events: ids(10) },
    { prev_events: [] },
    { sender: '@:historical.example' },
    { signatures: {} },
    { unsigned: { age: 0.5 } },
  ])('takes %j', (change) => expect(parsePdu({ ...pdu, ...change }, v12).ok).toBe(true));

  it('takes an event of exactly 65,536 bytes without unsigned, and refuses one more', () => {
    const padded = (length: number): JsonObject => ({
      ...pdu,
      content: { pad: `é${'a'.repeat(length)}` },
      unsigned: { invite_room_state: 'x'.repeat(100) },
    });
    const size = pduBytes(padded(0), v12);
    const room = MAX_PDU_BYTES - (size.ok ? size.value : 0);
    expect(pduBytes(padded(room), v12)).toEqual({ ok: true, value: MAX_PDU_BYTES });
    expect(parsePdu(padded(room), v12).ok).toBe(true);
    expect(parsePdu(padded(room + 1), v12).ok).toBe(false);
  });

  it('takes what nests as deep as the bound and refuses what nests deeper', () => {
    const nested = (levels: number): JsonValue => (levels === 0 ? 0 : [nested(levels - 1)]);
    const nesting = (levels: number): JsonObject => ({ ...pdu, content: { deep: nested(levels - 2) } });
    expect(parsePdu(nesting(MAX_PDU_NESTING), v12).ok).toBe(true);
    expect(parsePdu(nesting(MAX_PDU_NESTING + 1), v12)).toEqual({
      ok: false,
      problem: `the event nests deeper than ${MAX_PDU_NESTING} levels`,
    });
  });

  it('refuses what is nested too deep, instead of falling over', () => {
    const content = JSON.parse(`{"a":${'['.repeat(20_000)}${']'.repeat(20_000)}}`);
    expect(parsePdu({ ...pdu, content }, v12).ok).toBe(false);
  });

  it('never throws, whatever it is given', () => {
    const junk = fc.jsonValue({ maxDepth: 3 });
    const mutated = fc
      .tuple(fc.constantFrom(...Object.keys(pdu), 'unsigned', 'room_id'), junk)
      .map(([name, value]) => ({ ...pdu, [name]: value }));
    fc.assert(
      fc.property(fc.oneof(junk, mutated), (value) => {
        const result = parsePdu(value, v12);
        if (result.ok) expect(canonicalJson({ ...result.value.pdu, unsigned: {} }).ok).toBe(true);
      }),
      { seed: 12, numRuns: 500 },
    );
    for (const value of [undefined, null, 1, 'text', []]) expect(parsePdu(value, v12).ok).toBe(false);
  });

  it('takes senders that are valid only', () =>
    expect(parsePdu({ ...pdu, sender: user('bob') }, v12).ok).toBe(true));
});
