import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { literalNames } from '../../src/compact/pdu/literal.ts';
import { idOf } from '../../src/compact/pdu/rules.ts';
import { compactSendAnswer, restoreSendAnswer } from '../../src/compact/pdu/send_answer.ts';
import type { PduView } from '../../src/compact/pdu/view.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import type { Event, Pdu } from '../../src/matrix/pdu.ts';
import { roomVersion } from '../../src/matrix/room_version.ts';
import { ALICE, PduRoom, pick, ROOM_VERSIONS, randomPdu, randomRoom, randomSaid } from './pdu_rooms.ts';

/** As the server's builder makes it. */
function eventOf(pdu: JsonObject, room: PduRoom): Event {
  return { id: idOf(pdu, room.version), room: room.room, pdu: pdu as unknown as Pdu } as Event;
}

function answered(event: Event, bytes: Uint8Array, view: PduView): string {
  const { type, sender, state_key, content } = event.pdu;
  const back = restoreSendAnswer(bytes, { type, sender, stateKey: state_key, content }, view, literalNames);
  return back.ok ? back.value.eventId : back.problem.kind;
}

describe('the answer to a send', () => {
  test('gives the client the id of its event in 7 bytes where it has the event before', () => {
    const room = new PduRoom(roomVersion('12')!, seededRandom(1));
    const content = { body: 'Hello World', msgtype: 'm.text' };
    const event = eventOf(room.make({ type: 'm.room.message', sender: ALICE, content }), room);
    const bytes = compactSendAnswer(event, room.view(), literalNames);
    expect(bytes).toHaveLength(1 + 4 + 2);
    expect(answered(event, bytes, room.view())).toBe(event.id);
  });

  test('tells the depth to a client that does not know how deep the room is', () => {
    const room = new PduRoom(roomVersion('12')!, seededRandom(2));
    const event = eventOf(room.make(randomSaid(room.random)), room);
    const shallow = room.view({ event: (id) => ({ ...room.view().event(id)!, depth: 0 }) });
    const bytes = compactSendAnswer(event, shallow, literalNames);
    expect(bytes).toHaveLength(1 + 1 + 4 + 2 + 1);
    expect(answered(event, bytes, shallow)).toBe(event.id);
  });

  test('is the literal id in 33 bytes to a client that knows too little of what goes into it', () => {
    const room = new PduRoom(roomVersion('12')!, seededRandom(3));
    const pdu = room.make(randomSaid(room.random));
    const event = eventOf(room.finish({ ...pdu, origin: 'a.example' }), room);
    const bytes = compactSendAnswer(event, room.view(), literalNames);
    expect(bytes).toHaveLength(1 + 32);
    expect(answered(event, bytes, room.view({ lacks: () => true }))).toBe(event.id);
  });

  test('is the right id in every room version, or none', () => {
    const seen = new Map<string, number>();
    fc.assert(
      fc.property(fc.integer(), fc.constantFrom(...ROOM_VERSIONS), fc.boolean(), (seed, version, differs) => {
        const room = randomRoom(version, seededRandom(seed));
        const event = eventOf(
          room.make(randomSaid(room.random), [pick(room.random, [...room.events.keys()])]),
          room,
        );
        const bytes = compactSendAnswer(event, room.view(), literalNames);
        const lost = pick(room.random, [...room.events.keys()]);
        const view = differs ? room.view({ lacks: (id) => id === lost }) : room.view();
        const outcome = answered(event, bytes, view);
        seen.set(outcome[0]!, (seen.get(outcome[0]!) ?? 0) + 1);
        expect(outcome).toBe(differs && outcome === 'send whole' ? outcome : event.id);
      }),
      { seed: 4, numRuns: 400 },
    );
    expect(seen.get('$')).toBeGreaterThan(200);
    expect(seen.get('s')).toBeGreaterThan(5);
  });

  test('takes any bytes at all', () => {
    const room = new PduRoom(roomVersion('12')!, seededRandom(5));
    const event = eventOf(randomPdu(room), room);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        expect(answered(event, bytes, room.view())).toBeTypeOf('string');
      }),
      { seed: 5, numRuns: 2000 },
    );
  });
});
