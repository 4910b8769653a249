import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hex, utf8 } from '../../src/base/bytes.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { encodeJson } from '../../src/compact/cbor.ts';
import { compactPdu, wholePdu } from '../../src/compact/pdu/compact.ts';
import { literalContents, literalNames } from '../../src/compact/pdu/literal.ts';
import { restorePdu } from '../../src/compact/pdu/restore.ts';
import { withSignature } from '../../src/compact/pdu/signature_field.ts';
import type { PduView } from '../../src/compact/pdu/view.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { roomVersion } from '../../src/matrix/room_version.ts';
import { restoreLiterally } from './pdu_literal.ts';
import {
  ALICE,
  BOB,
  PduRoom,
  pick,
  ROOM_VERSIONS,
  randomPdu,
  randomRoom,
  randomSaid,
  textOf,
} from './pdu_rooms.ts';

const codecs = { names: literalNames, contents: literalContents };
const v12 = roomVersion('12')!;
const compact = (pdu: JsonObject, view: PduView, defer = false) =>
  compactPdu(pdu, { view, ...codecs }, defer);

/** The event, with the signature that was deferred; or the problem. */
function restored(
  bytes: Uint8Array,
  view: PduView,
  deferred?: ReturnType<typeof compactPdu>['deferred'],
): string {
  const back = restorePdu(bytes, { view, ...codecs });
  if (!back.ok) return back.problem.kind;
  return textOf(deferred === undefined ? back.value.pdu : withSignature(back.value.pdu, deferred));
}

/** A view that has been damaged in some way, as that of a server that has missed or mistaken something. */
function differentView(room: PduRoom, random: Random): PduView {
  const lost = pick(random, [...room.events.keys()]);
  return pick<() => PduView>(random, [
    () => room.view({ lacks: (id) => id === lost }),
    () => room.view({ lacks: (id) => room.extremities.includes(id) }),
    () => room.view({ usualSender: BOB }),
    () => room.view({ usualSender: undefined }),
    () => room.view({ usualKey: () => 'ed25519:other' }),
    () => room.view({ usualKey: () => undefined }),
    () => room.view({ state: (places) => room.view().state(places).slice(1) }),
    () => room.view({ state: () => [] }),
    () => room.view({ room: '!another:a.example' }),
    () => room.view({ lacks: () => true, usualSender: undefined, usualKey: () => undefined }),
  ])();
}

describe('an event in its compact form', () => {
  test.each(ROOM_VERSIONS.map((version) => [version.id, version] as const))(
    'comes back byte for byte in room version %s, also a strange one',
    (_, version) => {
      const seen = { whole: 0, compact: 0 };
      fc.assert(
        fc.property(fc.integer(), fc.boolean(), (seed, defer) => {
          const room = randomRoom(version, seededRandom(seed));
          const pdu = randomPdu(room);
          const { bytes, deferred, isWhole } = compact(pdu, room.view(), defer);
          seen[isWhole ? 'whole' : 'compact']++;
          expect(restored(bytes, room.view(), deferred)).toBe(textOf(pdu));
        }),
        { seed: 10, numRuns: 80 },
      );
      expect(seen.whole).toBeGreaterThan(3);
      expect(seen.compact).toBeGreaterThan(seen.whole);
    },
  );

  test('is the same event to a reader that does it the slow and obvious way', () => {
    fc.assert(
      fc.property(fc.integer(), fc.constantFrom(...ROOM_VERSIONS), (seed, version) => {
        const room = randomRoom(version, seededRandom(seed));
        const { bytes } = compact(randomPdu(room), room.view());
        const literal = restoreLiterally(bytes, room.view());
        expect(literal === 'whole' ? literal : textOf(literal)).toBe(restored(bytes, room.view()));
      }),
      { seed: 11, numRuns: 400 },
    );
  });

  test('is asked for whole by a reader that knows other things, and never becomes another event', () => {
    const seen = new Map<string, number>();
    fc.assert(
      fc.property(fc.integer(), fc.constantFrom(...ROOM_VERSIONS), (seed, version) => {
        const room = randomRoom(version, seededRandom(seed));
        const pdu = randomPdu(room);
        const { bytes } = compact(pdu, room.view());
        const text = restored(bytes, differentView(room, room.random));
        const outcome = text.startsWith('{') ? 'event' : text;
        seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
        // A key that differs is seen when the signature is verified: it is not part of the event's id.
        if (outcome === 'event') expect(withoutKeys(text)).toBe(withoutKeys(textOf(pdu)));
        expect(restored(wholePdu(pdu), room.view({ lacks: () => true }))).toBe(textOf(pdu));
      }),
      { seed: 12, numRuns: 800 },
    );
    expect(seen.get('send whole')).toBeGreaterThan(100);
    expect(seen.get('event')).toBeGreaterThan(100);
    expect([...seen.keys()].sort()).toEqual(['event', 'send whole']);
  });

  test('that was mutated never throws, and is another event no more often than two bytes of check let pass', () => {
    const random = seededRandom(13);
    let [restoredOthers, tried] = [0, 0];
    for (let round = 0; round < 60; round++) {
      const room = randomRoom(pick(random, ROOM_VERSIONS), random);
      const pdu = randomPdu(room);
      const { bytes, isWhole } = compact(pdu, room.view());
      for (let again = 0; again < 200; again++) {
        const text = restored(mutated(bytes, random), room.view());
        if (isWhole) continue;
        tried++;
        if (text.startsWith('{') && covered(text) !== covered(textOf(pdu))) restoredOthers++;
      }
    }
    expect(tried).toBeGreaterThan(5_000);
    // One in 65,536 is expected; a check of one byte less would let some forty pass.
    expect(restoredOthers).toBeLessThanOrEqual(2);
  });

  test('goes whole where reading it back does not give the same event', () => {
    const room = new PduRoom(ROOM_VERSIONS[0]!, seededRandom(17));
    const { hashes: _hashes, signatures: _signatures, ...pdu } = room.make(randomSaid(room.random));
    const long = room.finish({ ...pdu, prev_events: [['$x', { sha256: 'x'.repeat(2_000) }]] });
    const { bytes, isWhole } = compact(long, room.view());
    expect(isWhole).toBe(true);
    expect(restored(bytes, room.view())).toBe(textOf(long));
  });

  test.each<[string, JsonValue]>([
    ['has no canonical form', [{ level: 1.5 }, {}]],
    ['is not an object', [[], {}]],
    ['has further fields that are none', [{}, 5]],
    ['has a further field in the place of another', [{}, { depth: 5 }]],
    ['has its signatures twice', [{}, { signatures: {} }]],
    ['goes on behind the further fields', [{}, {}, {}]],
    ['has no further fields, though it says so', {}],
  ])('is malformed where its content %s', (_, content) => {
    const room = new PduRoom(v12, seededRandom(19));
    const {
      hashes: _hashes,
      signatures: _signatures,
      ...pdu
    } = room.make({ type: 'x', sender: ALICE, content: {} });
    const contents = { ...literalContents, writeJson: () => encodeJson(content) };
    const event = room.finish({ ...pdu, origin: 'a.example' });
    const { bytes } = compactPdu(event, { view: room.view(), names: literalNames, contents });
    expect(restored(bytes, room.view())).toBe('malformed');
  });

  test('takes any bytes at all', () => {
    const room = new PduRoom(v12, seededRandom(14));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        restored(bytes, room.view());
      }),
      { seed: 14, numRuns: 3000 },
    );
  });
});

const withoutKeys = (text: string): string => text.replaceAll(/"ed25519:(1|other)"/g, '"key"');

/** What the event's id covers. */
function covered(text: string): string {
  const { signatures: _signatures, unsigned: _unsigned, ...event } = JSON.parse(text) as JsonObject;
  return textOf(event);
}

/** Whole forms stay what they are: nothing is computed in them, so that there is nothing to check. */
function mutated(bytes: Uint8Array, random: Random): Uint8Array {
  const copy = Uint8Array.from(bytes);
  const at = random.integer(copy.length);
  const change = random.integer(4);
  if (change === 0) return copy.subarray(0, at);
  if (change === 1)
    return Uint8Array.from([...copy.subarray(0, at), random.integer(256), ...copy.subarray(at)]);
  for (let left = change; left > 0; left--) copy[random.integer(copy.length)]! ^= 1 << random.integer(8);
  return copy[0]! >= 0xfe ? bytes : copy;
}

describe('"Hello World" in a room of two servers', () => {
  /** The last event is just under 15 minutes old. */
  function helloWorld(sender: string): { readonly pdu: JsonObject; readonly view: PduView } {
    const room = new PduRoom(v12, seededRandom(15));
    room.random.integer = () => 899_999;
    const pdu = room.make({
      type: 'm.room.message',
      sender,
      content: { body: 'Hello World', msgtype: 'm.text' },
    });
    return { pdu, view: room.view() };
  }

  /** A handle of one byte, as both sides have it for whoever has spoken before. */
  const handles = { write: () => Uint8Array.of(2) };
  const text = utf8('Hello World').length;
  /** In front of the event: route and room. */
  const front = 1 + 1;

  test('is 5 bytes and its text, where its sender was the last to speak in this direction', () => {
    const { pdu, view } = helloWorld(ALICE);
    const { bytes, deferred } = compact(pdu, view, true);
    expect(deferred?.bytes).toHaveLength(64);
    expect(bytes).toHaveLength(1 + 2 + 2 + text);
    // 899,999 ms and the bias of 65,536 are 0xebb9f; text by the usual sender, its signature deferred.
    expect(bytes[0]).toBe(0x30 | 0xe);
    expect(hex(bytes.subarray(3))).toBe(`bb9f${hex(utf8('Hello World'))}`);
  });

  test('leaves 9 of the 16 bytes of a record to the text, and 8 where another user of the server spoke last', () => {
    const byUsual = compact(helloWorld(ALICE).pdu, helloWorld(ALICE).view, true).bytes;
    const { pdu, view } = helloWorld(BOB);
    const byOther = compactPdu(pdu, { view, names: handles, contents: literalContents }, true).bytes;
    expect(16 - front - (byUsual.length - text)).toBe(9);
    expect(16 - front - (byOther.length - text)).toBe(8);
  });

  test('fits into 82 bytes with its signature, even where the text is not compressed', () => {
    const { pdu, view } = helloWorld(ALICE);
    const { bytes } = compact(pdu, view);
    expect(bytes).toHaveLength(1 + 2 + 2 + 64 + text);
    expect(front + bytes.length).toBe(82);
  });
});

describe('the first byte', () => {
  test('says that an event is whole only where it is', () => {
    // A signed text by the usual sender, with an extension and a short time of fifteen minutes: all bits would be set.
    for (const [age, length] of [
      [917_503, 2],
      [917_504, 4],
    ] as const) {
      const room = new PduRoom(v12, seededRandom(16));
      room.random.integer = () => age - 65_536;
      const content = { body: '', msgtype: 'm.text' };
      const pdu = room.make({ type: 'm.room.message', sender: ALICE, state_key: '', content });
      const { bytes, isWhole } = compact(pdu, room.view());
      expect(isWhole).toBe(false);
      expect(restored(bytes, room.view())).toBe(textOf(pdu));
      expect(bytes).toHaveLength(1 + 1 + 2 + length + 64);
    }
  });
});
