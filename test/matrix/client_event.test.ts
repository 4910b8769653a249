import { describe, expect, it } from 'vitest';
import { clientEvent } from '../../src/matrix/client_event.ts';
import type { EventId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { splitStateKey } from '../../src/matrix/pdu.ts';
import { STRIPPED_STATE, strippedEvent } from '../../src/matrix/stripped_state.ts';
import { createEvent, makeEvent, user } from './rooms.ts';

const create = createEvent();
const message = makeEvent({
  room_id: create.room,
  content: { body: 'hello' },
  origin_server_ts: 7,
  unsigned: { age: 99 },
});

describe('events as clients get them', () => {
  it('have the keys of the client format and nothing of the federation', () => {
    expect(clientEvent(message)).toEqual({
      event_id: message.id,
      room_id: create.room,
      type: 'm.room.message',
      sender: user('alice'),
      origin_server_ts: 7,
      content: { body: 'hello' },
    });
  });

  it('have the room id that the create event does not state', () => {
    expect(clientEvent(create)).toMatchObject({ room_id: create.room, state_key: '' });
  });

  it('have what the server knows about them under unsigned', () => {
    const extras = {
      age: 5,
      transactionId: 't',
      prevContent: { a: 1 },
      replacesState: '$x' as EventId,
      redactedBecause: { b: 2 },
      membership: 'join',
    };
    expect(clientEvent(message, extras).unsigned).toEqual({
      age: 5,
      transaction_id: 't',
      prev_content: { a: 1 },
      replaces_state: '$x',
      redacted_because: { b: 2 },
      membership: 'join',
    });
    expect(clientEvent(message, { age: undefined })).not.toHaveProperty('unsigned');
  });

  it('have the redacts of a redaction of an older room inside too, for newer clients', () => {
    const shown = (redacts: string, content: JsonObject): JsonObject =>
      clientEvent(makeEvent({ type: 'm.room.redaction', room_id: create.room, redacts, content }));
    expect(shown('$x', { reason: 'r' })).toMatchObject({
      redacts: '$x',
      content: { redacts: '$x', reason: 'r' },
    });
    const torn = shown('$x', { redacts: '$y', reason: 'r' });
    expect(torn).not.toHaveProperty('redacts');
    expect(torn.content).toEqual({ reason: 'r' });
  });

  it('have the redacts of a redaction outside too, for older clients', () => {
    const redaction = makeEvent({
      type: 'm.room.redaction',
      room_id: create.room,
      content: { redacts: '$x' },
    });
    expect(clientEvent(redaction)).toMatchObject({ redacts: '$x', content: { redacts: '$x' } });
    expect(clientEvent(makeEvent({ room_id: create.room, content: { redacts: '$x' } }))).not.toHaveProperty(
      'redacts',
    );
  });
});

describe('stripped state', () => {
  it('has four keys only', () => {
    expect(strippedEvent(create)).toEqual({
      type: 'm.room.create',
      sender: user('alice'),
      state_key: '',
      content: create.pdu.content,
    });
    expect(() => strippedEvent(message)).toThrow('assertion');
  });
  it('lists the types of the specification', () => {
    expect(STRIPPED_STATE.map((key) => splitStateKey(key).type)).toEqual([
      'm.room.create',
      'm.room.name',
      'm.room.avatar',
      'm.room.topic',
      'm.room.join_rules',
      'm.room.canonical_alias',
      'm.room.encryption',
    ]);
  });
});
