import { describe, expect, it } from 'vitest';
import type { EventId, RoomId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { redact, redactContent } from '../../src/matrix/redaction.ts';
import { makeEvent, v12 } from './rooms.ts';

describe('redaction (room versions 11 and 12)', () => {
  it('keeps the listed top-level keys and no others', () => {
    const kept = { ...makeEvent({ room_id: '!r' as RoomId, state_key: '' }).pdu, event_id: '$x' as EventId };
    const extra = {
      origin: 'x',
      membership: 'join',
      prev_state: [],
      redacts: '$y',
      unsigned: { age: 1 },
      constructor: 1,
    };
    expect(redact({ ...kept, ...extra }, v12)).toEqual(kept);
  });

  const everything = { extra: 1, nested: { a: 1 } };
  it.each<[string, JsonObject]>([
    ['m.room.member', { membership: 'join', join_authorised_via_users_server: '@a:b' }],
    ['m.room.create', { room_version: '12', additional_creators: [], anything: true, ...everything }],
    ['m.room.join_rules', { join_rule: 'restricted', allow: [{ type: 'm.room_membership', x: 1 }] }],
    [
      'm.room.power_levels',
      {
        ban: 1,
        events: { a: 1 },
        events_default: 1,
        invite: 1,
        kick: 1,
        redact: 1,
        state_default: 1,
        users: {},
        users_default: 1,
      },
    ],
    ['m.room.history_visibility', { history_visibility: 'shared' }],
    ['m.room.redaction', { redacts: '$x' }],
    ['m.room.message', {}],
    ['constructor', {}],
  ])('of the content of %s keeps %j', (type, kept) => {
    expect(redactContent(type, { ...everything, ...kept }, v12)).toEqual(kept);
  });

  it('drops the notifications of m.room.power_levels and the creator-independent aliases', () => {
    expect(redactContent('m.room.power_levels', { notifications: { room: 1 } }, v12)).toEqual({});
    expect(redactContent('m.room.aliases', { aliases: [] }, v12)).toEqual({});
  });

  it('keeps of a third-party invite what was signed', () => {
    const of = (invite: JsonObject[string]): JsonObject =>
      redactContent('m.room.member', { third_party_invite: invite }, v12);
    expect(of({ display_name: 'a', signed: { token: 't' } })).toEqual({
      third_party_invite: { signed: { token: 't' } },
    });
    expect(of({ display_name: 'a' })).toEqual({ third_party_invite: {} });
    expect(of('text')).toEqual({});
  });
});
