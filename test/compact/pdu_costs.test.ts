import { expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { compactPdu } from '../../src/compact/pdu/compact.ts';
import { literalContents, literalNames } from '../../src/compact/pdu/literal.ts';
import { idOf } from '../../src/compact/pdu/rules.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { roomVersion } from '../../src/matrix/room_version.ts';
import { ALICE, BOB, PduRoom, type Said, signature, USUAL_KEY } from './pdu_rooms.ts';

const v12 = roomVersion('12')!;
const codecs = { names: literalNames, contents: literalContents };
const text: Said = { type: 'm.room.message', sender: ALICE, content: { body: 'x', msgtype: 'm.text' } };

/** Header, check, time, a signature, a body of one byte. */
const ORDINARY = 1 + 2 + 2 + 64 + 1;
/** An event id by its hash. */
const EVENT_ID = 33;

/** A room that ends in two events, the deeper of which has the higher id. */
function forked(): { readonly room: PduRoom; readonly shallow: string; readonly deep: string } {
  for (let seed = 1; ; seed++) {
    const room = new PduRoom(v12, seededRandom(seed));
    const fork = [...room.extremities];
    room.clock += 100_000;
    const shallow = room.add(room.make(text, fork));
    const deep = room.add(room.make(text, [room.add(room.make({ ...text, sender: BOB }, fork))]));
    if (shallow < deep) return { room, shallow, deep };
  }
}

/** The bytes that an event takes beyond an ordinary one, with right hashes after `change`. */
function cost(room: PduRoom, change: (pdu: JsonObject) => JsonObject = (pdu) => pdu, said = text): number {
  room.random.integer = () => 1_000;
  const { hashes: _hashes, signatures: _signatures, ...pdu } = change(room.make(said));
  const { bytes, isWhole } = compactPdu(room.finish(pdu), { view: room.view(), ...codecs });
  expect(isWhole).toBe(false);
  return bytes.length - ORDINARY;
}

const list = (pdu: JsonObject, key: string): JsonValue[] => pdu[key] as JsonValue[];

test('an event that is as it is computed costs nothing but itself', () => {
  expect(cost(new PduRoom(v12, seededRandom(1)))).toBe(0);
});

test('nor one that joins two ends of a room, the deeper one named first', () => {
  expect(cost(forked().room)).toBe(0);
});

test('nor one behind an event at the limit of depth', () => {
  const room = new PduRoom(v12, seededRandom(2));
  const { hashes: _hashes, ...pdu } = room.make(text);
  room.add(room.finish({ ...pdu, depth: Number.MAX_SAFE_INTEGER }));
  expect(cost(room, (next) => ({ ...next, depth: Number.MAX_SAFE_INTEGER }))).toBe(0);
});

test('previous events that are not the extremities cost the extension and a byte', () => {
  const { room, shallow } = forked();
  const depth = room.events.get(shallow)!.known.depth + 1;
  expect(cost(room, (pdu) => ({ ...pdu, prev_events: [shallow], depth }))).toBe(2 + 0);
});

test('another order costs a byte for each event besides', () => {
  const { room } = forked();
  expect(cost(room, (pdu) => ({ ...pdu, prev_events: list(pdu, 'prev_events').toReversed() }))).toBe(2 + 2);
  const again = new PduRoom(v12, seededRandom(3));
  expect(cost(again, (pdu) => ({ ...pdu, auth_events: list(pdu, 'auth_events').toReversed() }))).toBe(2 + 2);
});

test('a repetition is told literally', () => {
  const room = new PduRoom(v12, seededRandom(4));
  const twice = (pdu: JsonObject): JsonObject => ({
    ...pdu,
    prev_events: [...list(pdu, 'prev_events'), ...list(pdu, 'prev_events')],
  });
  expect(cost(room, twice)).toBe(2 + 1 + EVENT_ID);
});

test('a previous event that the reader may not have brings its depth with it', () => {
  const room = new PduRoom(v12, seededRandom(5));
  const unknown = idOf(new PduRoom(v12, seededRandom(6)).make(text), v12);
  const later = (pdu: JsonObject): JsonObject => ({
    ...pdu,
    prev_events: [...list(pdu, 'prev_events'), unknown],
  });
  expect(cost(room, later)).toBe(2 + 1 + EVENT_ID + 1);
});

test('an auth event less costs the extension and a byte, one more the extension, two bytes and its id', () => {
  const room = new PduRoom(v12, seededRandom(7));
  expect(cost(room, (pdu) => ({ ...pdu, auth_events: list(pdu, 'auth_events').slice(1) }))).toBe(2);
  const [create] = room.events.keys();
  const more = (pdu: JsonObject): JsonObject => ({
    ...pdu,
    auth_events: [...list(pdu, 'auth_events'), create!],
  });
  expect(cost(room, more)).toBe(3 + EVENT_ID);
});

test('another depth costs the extension and its varint', () => {
  const room = new PduRoom(v12, seededRandom(8));
  expect(cost(room, (pdu) => ({ ...pdu, depth: 100 }))).toBe(1 + 1);
  expect(cost(room, (pdu) => ({ ...pdu, depth: 1000 }))).toBe(1 + 2);
});

test.each([10, -10])(
  'a time %d hours from the last costs the extension and two bytes more than the short form',
  (hours) => {
    const room = new PduRoom(v12, seededRandom(9));
    const moved = (pdu: JsonObject): JsonObject => ({
      ...pdu,
      origin_server_ts: Number(pdu.origin_server_ts) + hours * 3_600_000,
    });
    expect(cost(room, moved)).toBe(1 + 2);
  },
);

test('the two signatures of a restricted join are 64 bytes each, and 3 for the list, and the second server', () => {
  const room = new PduRoom(v12, seededRandom(10));
  const content = { membership: 'join', join_authorised_via_users_server: ALICE };
  const pdu = room.make({ type: 'm.room.member', sender: BOB, state_key: BOB, content });
  const signed = {
    ...pdu,
    signatures: { ...(pdu.signatures as JsonObject), 'a.example': { [USUAL_KEY]: signature(room.random) } },
  };
  const [one, two] = [pdu, signed].map((event) => {
    const view = room.view({ usualSender: BOB });
    return compactPdu(event, { view, ...codecs }).bytes.length;
  });
  expect(two! - one!).toBe(64 + 3 + 'xa.example'.length);
});

test('what has no place of its own goes beside the content, and the event is still compact', () => {
  const room = new PduRoom(v12, seededRandom(11));
  const pdu = room.make(text);
  const { 'a.example': signed } = pdu.signatures as Record<string, JsonObject>;
  const padded = { 'a.example': { [USUAL_KEY]: `${String(signed![USUAL_KEY])}==` } };
  for (const changed of [
    { ...pdu, unsigned: { age: 1 } },
    { ...pdu, signatures: padded },
    { ...pdu, hashes: { sha256: 'AAAA' } },
    room.make({ ...text, content: { ...text.content, 'm.mentions': {} } }),
  ]) {
    const { bytes, isWhole } = compactPdu(changed, { view: room.view(), ...codecs });
    expect(isWhole).toBe(false);
    expect(bytes.length).toBeLessThan(ORDINARY + 160);
  }
});
