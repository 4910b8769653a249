import { describe, expect, it } from 'vitest';
import { canonicalJson } from '../../src/matrix/canonical_json.ts';
import { authEventKeys, checkAuthEvents, powerLevels } from '../../src/matrix/event_auth.ts';
import { referencesTo } from '../../src/matrix/hashes.ts';
import type { RoomId } from '../../src/matrix/ids.ts';
import { type JsonObject, type JsonValue, parseJson } from '../../src/matrix/json.ts';
import { type Event, type Pdu, stateKey } from '../../src/matrix/pdu.ts';
import type { Level } from '../../src/matrix/power_levels.ts';
import { ROOM_VERSIONS, type RoomVersion } from '../../src/matrix/room_version.ts';
import { makeEvent, user } from './rooms.ts';
import { ALL, having, judged, roomOf, verdict } from './rooms_of_versions.ts';

const [alice, bob, carol] = [user('alice'), user('bob'), user('carol')];
const versionOf = (number: number): RoomVersion => ROOM_VERSIONS.get(String(number))!;

describe('the authorisation rules of the versions', () => {
  it('want a create event of the domain of its room, with a creator, up to version 10', () => {
    expect(judged(({ create }, version) => verdict(version, create, create))).toEqual({ allowed: ALL });
    const elsewhere = { room_id: '!room:elsewhere' as RoomId };
    expect(
      judged(({ create }, v) => verdict(v, makeEvent({ ...create.pdu, ...elsewhere }, v), create)),
    ).toEqual({
      'v1 1.2': '1 2 3 4 5 6 7 8 9 10 11',
      '1.2': '12',
    });
    expect(
      judged(({ create }, v) => verdict(v, makeEvent({ ...create.pdu, content: {} }, v), create)),
    ).toEqual({
      'v1 1.4': '1 2 3 4 5 6 7 8 9 10',
      allowed: '11 12',
    });
    const content = { creator: alice, additional_creators: 'nobody' };
    expect(judged(({ create }, v) => verdict(v, makeEvent({ ...create.pdu, content }, v), create))).toEqual({
      allowed: '1 2 3 4 5 6 7 8 9 10 11',
      '1.4': '12',
    });
    const unheard = { creator: alice, room_version: 'unheard of' };
    expect(
      judged(({ create }, v) => verdict(v, makeEvent({ ...create.pdu, content: unheard }, v), create)),
    ).toEqual({
      '1.3': ALL,
    });
  });

  it('want the create event among the auth events up to version 11, and not there in 12', () => {
    const check = (room: ReturnType<typeof roomOf>, version: RoomVersion, ...cited: Event[]): string => {
      const of = room.event({ sender: alice });
      const result = checkAuthEvents(
        of,
        cited.map((event) => ({ event, rejected: false })),
        version,
      );
      return result.ok ? 'allowed' : result.problem.rule;
    };
    const without = judged((room, version) => check(room, version, room.in[0]!));
    expect(without).toEqual({ 'v1 2.4': '1 2 3 4 5 6 7 8 9 10 11', allowed: '12' });
    const cited = judged((room, version) => check(room, version, room.in[0]!, room.create));
    expect(cited).toEqual({ allowed: '1 2 3 4 5 6 7 8 9 10 11', '3.2': '12' });
    const selected = having((version) =>
      authEventKeys(roomOf(version).event({}).pdu, version).includes(stateKey('m.room.create', '')),
    );
    expect(selected).toBe('1 2 3 4 5 6 7 8 9 10 11');
  });

  it('let anybody of a server write its m.room.aliases up to version 5', () => {
    const aliases = (sender: Pdu['sender'], key: string | undefined) =>
      judged((room, version) => {
        const fields = { type: 'm.room.aliases', sender, ...(key === undefined ? {} : { state_key: key }) };
        return verdict(version, room.event(fields), room.create, ...room.in);
      });
    const later = { '6': '6 7 8 9 10 11 12' };
    expect(aliases(carol, 'carol.example')).toEqual({ allowed: '1 2 3 4 5', ...later });
    expect(aliases(carol, 'bob.example')).toEqual({ 'v1 4.2': '1 2 3 4 5', ...later });
    expect(aliases(carol, undefined)).toEqual({ 'v1 4.1': '1 2 3 4 5', ...later });
  });

  it('have knocking from version 7 on', () => {
    const knock = (rule: string) =>
      judged((room, version) =>
        verdict(
          version,
          room.member(carol, 'knock'),
          room.create,
          room.state('m.room.join_rules', { join_rule: rule }),
        ),
      );
    expect(knock('knock')).toEqual({ '5.8': '1 2 3 4 5 6', allowed: '7 8 9 10 11 12' });
    expect(knock('knock_restricted')).toEqual({
      '5.8': '1 2 3 4 5 6',
      '5.7.1': '7 8 9',
      allowed: '10 11 12',
    });
    const join = (rule: string) =>
      judged((room, version) =>
        verdict(
          version,
          room.member(carol, 'join'),
          room.create,
          room.state('m.room.join_rules', { join_rule: rule }),
          room.member(carol, 'invite', {}, alice),
        ),
      );
    expect(join('knock')).toEqual({ '5.3.7': '1 2 3 4 5 6', allowed: '7 8 9 10 11 12' });
    expect(join('restricted')).toEqual({ '5.3.7': '1 2 3 4 5 6 7', allowed: '8 9 10 11 12' });
    expect(join('knock_restricted')).toEqual({ '5.3.7': '1 2 3 4 5 6 7 8 9', allowed: '10 11 12' });
    const leave = judged((room, version) =>
      verdict(version, room.member(carol, 'leave'), room.create, room.member(carol, 'knock')),
    );
    expect(leave).toEqual({ '5.5.1': '1 2 3 4 5 6', allowed: '7 8 9 10 11 12' });
  });

  it('let the creator join first, whoever that is', () => {
    const first = judged((room, version) => {
      const fields = { content: { creator: bob, room_version: version.id } };
      const create = makeEvent({ ...room.create.pdu, ...fields }, version);
      const joins = (who: Pdu['sender']): string =>
        verdict(
          version,
          makeEvent(
            {
              ...room.member(who, 'join').pdu,
              room_id: create.room,
              prev_events: referencesTo([create], version),
            },
            version,
          ),
          create,
        );
      return `${joins(alice)}, ${joins(bob)}`;
    });
    expect(first).toEqual({ '5.3.7, allowed': '1 2 3 4 5 6 7 8 9 10', 'allowed, 5.3.7': '11 12' });
  });

  it('decide about redactions in versions 1 and 2 only', () => {
    const redact = (sender: Pdu['sender'], redacts: string | undefined) =>
      judged((room, version) => {
        const fields = { type: 'm.room.redaction', sender, ...(redacts === undefined ? {} : { redacts }) };
        return verdict(version, room.event(fields), room.create, ...room.in);
      });
    expect(redact(alice, '$x:carol.example')).toEqual({ allowed: ALL });
    expect(redact(bob, '$x:alice.example')).toEqual({ allowed: ALL });
    const rejected = { 'v1 11.3': '1 2', allowed: '3 4 5 6 7 8 9 10 11 12' };
    expect(redact(bob, '$x:carol.example')).toEqual(rejected);
    expect(redact(bob, '$x')).toEqual(rejected);
    expect(redact(bob, undefined)).toEqual(rejected);
  });

  it('guard notifications from version 6 on', () => {
    const set = judged((room, version) =>
      verdict(
        version,
        room.state('m.room.power_levels', { users: { [bob]: 50 }, notifications: { room: 60 } }, bob),
        room.create,
        ...room.in,
        room.state('m.room.power_levels', { users: { [bob]: 50 } }),
      ),
    );
    expect(set).toEqual({ allowed: '1 2 3 4 5', '10.8.1': '6 7 8 9 10 11 12' });
  });

  it('read levels that are text up to version 9, and fractions up to version 5', () => {
    const taken = (level: JsonValue) =>
      having((version) => {
        // No event of the later versions holds a fraction.
        if (version.strictJson && !canonicalJson(level).ok) return false;
        const room = roomOf(version);
        const set = room.state('m.room.power_levels', { users: { [bob]: level } });
        const isAllowed = verdict(version, set, room.create, ...room.in) === 'allowed';
        if (isAllowed) expect(powerLevels(room.create, set, version).user(bob)).toBe(50);
        return isAllowed;
      });
    expect(taken(50)).toBe(ALL);
    for (const text of ['50', '00050', '+50', ' 50 ', ' +0050\n']) {
      expect(taken(text), text).toBe('1 2 3 4 5 6 7 8 9');
    }
    for (const text of ['5 0', '50.0', '0x32', '5e1', '', ' ', 'fifty', '++50', '1'.repeat(400)]) {
      expect(taken(text), text).toBe('');
    }
    expect(taken(50.57)).toBe('1 2 3 4 5');
    for (const text of ['50.0', '5e1', '5.0999E+1']) expect(taken(parseJson(text)), text).toBe('1 2 3 4 5');
  });

  it('are told apart where a number here is not', () => {
    const [large, larger] = ['9007199254740992', '9007199254740993'] as const;
    const judge = (mine: JsonValue, set: JsonValue): string =>
      having((version) => {
        if (version.strictJson && ![mine, set].every((level) => canonicalJson(level).ok)) return false;
        const room = roomOf(version);
        const levels = (users: JsonObject) => ({ users, state_default: 0, ban: 0 });
        const before = room.state('m.room.power_levels', levels({ [bob]: mine }));
        const after = room.state('m.room.power_levels', levels({ [bob]: mine, '@c:d': set }), bob);
        return verdict(version, after, room.create, ...room.in, before) === 'allowed';
      });
    expect(judge(larger, large)).toBe('1 2 3 4 5 6 7 8 9');
    expect(judge(large, large)).toBe('1 2 3 4 5 6 7 8 9');
    expect(judge(large, larger)).toBe('');
    expect(judge(parseJson(larger), parseJson(large))).toBe('1 2 3 4 5');
    expect(judge(parseJson(large), parseJson(larger))).toBe('');
    // 2^53 both, once as a fraction.
    expect(judge(parseJson(large), parseJson(`${large}.0`))).toBe('1 2 3 4 5');
  });

  it('make the creator 100 where no event says otherwise, and nothing more, up to version 11', () => {
    const levels = (version: RoomVersion, content?: JsonObject): Level[] => {
      const room = roomOf(version);
      const power = content && room.state('m.room.power_levels', content);
      const { user: of } = powerLevels(room.create, power, version);
      return [of(alice), of(bob)];
    };
    expect(having((version) => String(levels(version)) === '100,0')).toBe('1 2 3 4 5 6 7 8 9 10 11');
    expect(having((version) => String(levels(version, {})) === '0,0')).toBe('1 2 3 4 5 6 7 8 9 10 11');
    expect(levels(versionOf(12), { users_default: 7 })).toEqual([Number.POSITIVE_INFINITY, 7]);
    const named = judged((room, version) =>
      verdict(
        version,
        room.state('m.room.power_levels', { users: { [alice]: 100 } }),
        room.create,
        ...room.in,
      ),
    );
    expect(named).toEqual({ allowed: '1 2 3 4 5 6 7 8 9 10 11', '10.4': '12' });
  });
});
