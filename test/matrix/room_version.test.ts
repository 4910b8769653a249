import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { canonicalJson } from '../../src/matrix/canonical_json.ts';
import { parsePdu } from '../../src/matrix/event_format.ts';
import { newEventId, referencesTo } from '../../src/matrix/hashes.ts';
import { type EventId, parseEventId, type RoomId, type ServerName } from '../../src/matrix/ids.ts';
import { type JsonObject, parseJson } from '../../src/matrix/json.ts';
import { authEvents, prevEvents } from '../../src/matrix/pdu.ts';
import { redactContent, redactedId } from '../../src/matrix/redaction.ts';
import { ROOM_VERSIONS, type RoomVersion, supportedRoomVersions } from '../../src/matrix/room_version.ts';
import { contentHashMatches, requiredSigners } from '../../src/matrix/signing.ts';
import { createEvent, makeEvent, user, VERSIONS } from './rooms.ts';
import { having, judged, roomOf } from './rooms_of_versions.ts';

const [alice, bob] = [user('alice'), user('bob')];
const versionOf = (number: number): RoomVersion => ROOM_VERSIONS.get(String(number))!;

describe('what room versions differ in', () => {
  it('is as their texts say', () => {
    expect(having(() => true)).toBe('1 2 3 4 5 6 7 8 9 10 11 12');
    expect(having(({ eventIds }) => eventIds === 'stated')).toBe('1 2');
    expect(having(({ eventIds }) => eventIds === 'base64')).toBe('3');
    expect(having(({ redactionRule }) => redactionRule)).toBe('1 2');
    expect(having(({ aliasesRule }) => aliasesRule)).toBe('1 2 3 4 5');
    expect(having(({ strictJson }) => !strictJson)).toBe('1 2 3 4 5');
    expect(having(({ powerLevels: form }) => form === 'numbers and strings')).toBe('1 2 3 4 5');
    expect(having(({ powerLevels: form }) => form === 'integers and strings')).toBe('6 7 8 9');
    expect(having(({ checksKeyValidity }) => checksKeyValidity)).toBe('5 6 7 8 9 10 11 12');
    expect(having(({ guardsNotifications }) => guardsNotifications)).toBe('6 7 8 9 10 11 12');
    expect(having(({ knocking }) => knocking)).toBe('7 8 9 10 11 12');
    expect(having(({ restrictedJoins }) => restrictedJoins)).toBe('8 9 10 11 12');
    expect(having(({ knockRestricted }) => knockRestricted)).toBe('10 11 12');
    expect(having(({ redactsIn }) => redactsIn === 'content')).toBe('11 12');
    expect(having(({ creators }) => creators === 'content')).toBe('1 2 3 4 5 6 7 8 9 10');
    expect(having(({ roomIsCreateEvent }) => roomIsCreateEvent)).toBe('12');
    expect(having(({ privilegedCreators }) => privilegedCreators)).toBe('12');
    expect(VERSIONS.map(({ stateResolution }) => stateResolution)).toEqual([
      'v1',
      ...Array<string>(10).fill('v2'),
      'v2.1',
    ]);
    expect(supportedRoomVersions()).toContain('12');
  });

  it.each<[string, string, string]>([
    ['m.room.member', 'membership', '1 2 3 4 5 6 7 8 9 10 11 12'],
    ['m.room.member', 'join_authorised_via_users_server', '9 10 11 12'],
    ['m.room.member', 'displayname', ''],
    ['m.room.create', 'creator', '1 2 3 4 5 6 7 8 9 10 11 12'],
    ['m.room.create', 'm.federate', '11 12'],
    ['m.room.join_rules', 'join_rule', '1 2 3 4 5 6 7 8 9 10 11 12'],
    ['m.room.join_rules', 'allow', '8 9 10 11 12'],
    ['m.room.power_levels', 'users', '1 2 3 4 5 6 7 8 9 10 11 12'],
    ['m.room.power_levels', 'invite', '11 12'],
    ['m.room.power_levels', 'notifications', ''],
    ['m.room.aliases', 'aliases', '1 2 3 4 5'],
    ['m.room.history_visibility', 'history_visibility', '1 2 3 4 5 6 7 8 9 10 11 12'],
    ['m.room.redaction', 'redacts', '11 12'],
    ['m.room.message', 'body', ''],
  ])('redaction of %s keeps %s in versions %s', (type, key, versions) =>
    expect(
      having((version) => Object.hasOwn(redactContent(type, { [key]: 1, other: 2 }, version), key)),
    ).toBe(versions),
  );
});

/** The examples of the event format (server-server API, definitions), with their parts put together. */
const base: JsonObject = {
  content: { key: 'value' },
  depth: 12,
  hashes: { sha256: 'thishashcoversallfieldsincasethisisredacted' },
  origin_server_ts: 1404838188000,
  room_id: '!UcYsUzyxTGDxLBEvLy:example.org',
  sender: '@alice:example.com',
  signatures: {
    'example.com': { 'ed25519:key_version:': 'these86bytesofbase64signaturecoveressentialfields' },
  },
  type: 'm.room.message',
  unsigned: { age: 4612 },
};
const pair = ['$af232176:example.org', { sha256: 'abase64encodedsha256hashshouldbe43byteslong' }];
const FORMATS: Readonly<Record<RoomVersion['eventIds'], JsonObject>> = {
  stated: {
    event_id: '$a4ecee13e2accdadf56c1025:example.com',
    prev_events: [pair],
    auth_events: [pair],
  },
  base64: {
    prev_events: ['$base64encodedeventid', '$adifferenteventid'],
    auth_events: ['$base64encodedeventid', '$adifferenteventid'],
    redacts: '$some/old+event',
  },
  base64url: {
    prev_events: ['$base64encodedeventid', '$adifferenteventid'],
    auth_events: ['$base64encodedeventid', '$adifferenteventid'],
  },
};

describe('the event format', () => {
  it.each(VERSIONS)('of the example of version $id', (version) => {
    const pdu = { ...base, ...FORMATS[version.eventIds] };
    const parsed = parsePdu(pdu, version);
    if (!parsed.ok) throw new Error(parsed.problem);
    const { id, room, pdu: taken } = parsed.value;
    expect(taken).toEqual(pdu);
    expect(room).toBe(base.room_id);
    const form = { stated: /^\$a4ecee/, base64: /^\$[A-Za-z0-9+/]{43}$/, base64url: /^\$[\w-]{43}$/ };
    expect(id).toMatch(form[version.eventIds]);
    const ids = version.eventIds === 'stated' ? ['$af232176:example.org'] : pdu.prev_events;
    expect([prevEvents(taken), authEvents(taken)]).toEqual([ids, ids]);
  });

  it('of other versions is refused', () => {
    for (const version of VERSIONS) {
      const { room_id: _, ...roomless } = { ...base, ...FORMATS[version.eventIds] };
      const create = { ...roomless, type: 'm.room.create', state_key: '' };
      expect(parsePdu(create, version).ok).toBe(version.id === '12');
      expect(parsePdu(roomless, version).ok).toBe(false);
      const isPairs = version.eventIds === 'stated';
      const wrong = isPairs ? { event_id: '$x:y', ...FORMATS.base64 } : FORMATS.stated;
      expect(parsePdu({ ...base, ...wrong }, version).ok).toBe(false);
    }
  });

  it.each<[string, JsonObject]>([
    ['no id', { event_id: null }],
    ['an id without a domain', { event_id: '$x' }],
    ['a hash without an id', { prev_events: [[{ sha256: 'x' }]] }],
    ['three parts', { prev_events: [[...pair, 1]] }],
    ['no hash', { auth_events: [['$x:y']] }],
    ['another thing than hashes', { auth_events: [['$x:y', 'sha256']] }],
    ['too many of them', { auth_events: Array<typeof pair>(11).fill(pair) }],
  ])('of version 1 is not what has %s', (_, change) =>
    expect(parsePdu({ ...base, ...FORMATS.stated, ...change }, versionOf(1)).ok).toBe(false),
  );

  it('of version 1 may leave out the hashes of the events that it names, as Synapse does at times', () =>
    expect(parsePdu({ ...base, ...FORMATS.stated, prev_events: [['$x:y', {}]] }, versionOf(1)).ok).toBe(
      true,
    ));

  it('has fractions and a depth below 2^63 until version 5, and neither from 6 on', () => {
    for (const version of VERSIONS) {
      const pdu = { ...base, ...FORMATS[version.eventIds] };
      const isLoose = Number(version.id) <= 5;
      expect(parsePdu({ ...pdu, content: { level: 50.57, big: 1e21 } }, version).ok).toBe(isLoose);
      expect(parsePdu({ ...pdu, depth: parseJson('9223372036854775807') }, version).ok).toBe(isLoose);
      expect(parsePdu({ ...pdu, depth: parseJson('9223372036854775808') }, version).ok).toBe(false);
      expect(parsePdu({ ...pdu, depth: parseJson('7.0') }, version).ok).toBe(false);
      expect(parsePdu({ ...pdu, depth: 2 ** 64 }, version).ok).toBe(false);
      expect(parsePdu({ ...pdu, depth: 1.5 }, version).ok).toBe(false);
      expect(parsePdu({ ...pdu, content: { level: Number.POSITIVE_INFINITY } }, version).ok).toBe(false);
    }
  });

  it('names events by pairs with their reference hash in versions 1 and 2', () => {
    const create = createEvent({}, alice, versionOf(1));
    const [reference] = referencesTo([create], versionOf(1));
    expect(reference).toEqual([create.id, { sha256: expect.stringMatching(/^[A-Za-z0-9+/]{43}$/) }]);
    expect(referencesTo([create], versionOf(4))).toEqual([create.id]);
    const id = newEventId('a.example' as ServerName, seededRandom(1));
    expect(parseEventId(id).ok && id).toMatch(/^\$[\w-]{24}:a\.example$/);
  });
});

describe('loose canonical JSON', () => {
  it.each<[number, string]>([
    [50.57, '50.57'],
    [-0.5, '-0.5'],
    [0.0001, '0.0001'],
    [0.00001, '1e-05'],
    [0.0000012345, '1.2345e-06'],
    [1e-7, '1e-07'],
    [1.5e-300, '1.5e-300'],
    [1e21, '1000000000000000000000'],
    [2 ** 63, '9223372036854775808'],
    [-0, '0'],
  ])('writes %d as Python does: %s', (value, text) => {
    expect(canonicalJson({ value }, 'any')).toEqual({ ok: true, value: `{"value":${text}}` });
  });
  it('has no infinities', () => expect(canonicalJson(Number.NaN, 'any').ok).toBe(false));
  it('covers what is loose by the hashes of the versions that allow it', () => {
    const pdu = makeEvent({ room_id: '!r:x' as RoomId, content: { x: 0.5 } }, versionOf(5)).pdu;
    expect(contentHashMatches(pdu, versionOf(5))).toBe(false);
    expect(() => contentHashMatches(pdu, versionOf(6))).toThrow('assertion');
  });
});

describe('signatures and redactions of the versions', () => {
  it('are wanted of the server of the event id in versions 1 and 2', () => {
    const signers = (version: RoomVersion): string =>
      requiredSigners(
        { ...roomOf(version).event({}).pdu, event_id: '$x:carol.example' as EventId },
        version,
      ).join();
    expect(having((version) => signers(version) === 'alice.example,carol.example')).toBe('1 2');
    expect(having((version) => signers(version) === 'alice.example')).toBe('3 4 5 6 7 8 9 10 11 12');
  });

  it('are wanted of the server that authorises a restricted join from version 8 on', () => {
    const signers = (version: RoomVersion): number => {
      const content = { join_authorised_via_users_server: alice };
      return requiredSigners(roomOf(version).member(bob, 'join', content).pdu, version).filter((server) =>
        ['alice.example', 'bob.example'].includes(server),
      ).length;
    };
    // In versions 1 and 2 Alice's server made the event's id.
    expect(having((version) => signers(version) === 2)).toBe('1 2 8 9 10 11 12');
  });

  it('name their event at the top level up to version 10, and in the content since', () => {
    const named = judged((room, version) => {
      const content = { redacts: '$inside' };
      const { pdu } = room.event({ type: 'm.room.redaction', redacts: '$outside', content });
      expect(redactedId({ ...pdu, type: 'm.room.message' }, version)).toBeUndefined();
      expect(redactedId({ ...pdu, state_key: '' }, version)).toBeUndefined();
      return String(redactedId(pdu, version));
    });
    expect(named).toEqual({ $outside: '1 2 3 4 5 6 7 8 9 10', $inside: '11 12' });
  });
});
