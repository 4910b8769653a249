import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { base64, fromBase64 } from '../../src/base/bytes.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { authorise, checkAuthEvents } from '../../src/matrix/event_auth.ts';
import { contentHash, eventId, referenceHash } from '../../src/matrix/hashes.ts';
import type { EventId, KeyId, ServerName, UserId } from '../../src/matrix/ids.ts';
import { type JsonObject, parseJson } from '../../src/matrix/json.ts';
import { authEvents, type Event, type Pdu, type StateMap, stateKey } from '../../src/matrix/pdu.ts';
import { redact } from '../../src/matrix/redaction.ts';
import { addSignature, signingKey } from '../../src/matrix/signing.ts';
import { people, pick, randomEvent, randomRoom, randomSets } from '../matrix/random_rooms.ts';
import { sorted, type TestRoom, VERSIONS } from '../matrix/rooms.ts';
import { SynapseRules, synapseEnvironment } from './synapse_rules_peer.ts';

const ROOMS = 20;
const EVENTS_PER_ROOM = 40;
const RESOLUTIONS_PER_ROOM = 10;

const missing = await synapseEnvironment.install();
const key = signingKey('ed25519:1' as KeyId, fromBase64('YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1')!);

/** Content and further keys of which redaction keeps some, in some versions. */
const CONTENTS: readonly (readonly [string, JsonObject])[] = [
  [
    'm.room.member',
    {
      membership: 'join',
      join_authorised_via_users_server: '@a:b',
      displayname: 'x',
      third_party_invite: { signed: { token: 'x' }, display_name: 'y' },
    },
  ],
  ['m.room.create', { creator: '@a:b', 'm.federate': true, room_version: '1', more: { of: ['it'] } }],
  ['m.room.join_rules', { join_rule: 'restricted', allow: [{ type: 'x' }], other: 1 }],
  [
    'm.room.power_levels',
    { ban: 1, kick: 2, invite: 3, redact: 4, users: {}, events: {}, notifications: {}, historical: 1 },
  ],
  ['m.room.aliases', { aliases: ['#x:y'], other: 1 }],
  ['m.room.history_visibility', { history_visibility: 'shared', other: 1 }],
  ['m.room.redaction', { redacts: '$x', reason: 'ä\u2028\ud83d\ude00"\\/\u0000' }],
  ['m.room.message', { body: 'x', n: [-0, 0, 1, -9007199254740991, 9007199254740991, null, true] }],
];
/** Numbers as JSON may have them, which room versions 1 to 5 do not forbid. */
const NUMBERS = [
  ...[
    '0',
    '-0',
    '-0.0',
    '1.0',
    '1e3',
    '1E+3',
    '-1.50e1',
    '100e-2',
    '0.1',
    '0.0001',
    '0.00001',
    '1.5e-7',
    '5e-324',
  ],
  ...['1e15', '9999999999999998.0', '1e16', '12345678901234567890.0', '1e21', '1e22', '1.5e300', '2.5e-05'],
  ...[
    '9007199254740993',
    '-9007199254740993',
    '1152921504606846976',
    '1152921504606846977',
    '123456789012345678901',
  ],
  `1${'0'.repeat(300)}`,
];

function randomNumber(random: Random): string {
  const digits = (count: number): string => Array.from({ length: count }, () => random.integer(10)).join('');
  const whole = `${random.integer(2) === 0 ? '-' : ''}${1 + random.integer(9)}${digits(random.integer(20))}`;
  const fraction = random.integer(2) === 0 ? '' : `.${digits(1 + random.integer(20))}`;
  return `${whole}${fraction}${random.integer(2) === 0 ? '' : `e${random.integer(60) - 30}`}`;
}

const FURTHER = {
  origin: 'b',
  membership: 'join',
  prev_state: [],
  redacts: '$x',
  unsigned: { age: 1 },
  x: 1,
};

function pdusOf(room: TestRoom): Pdu[] {
  const { pdu } = room.member([room.create], people[0]!, people[0]!, 'join');
  return CONTENTS.map(([type, content]) => {
    const { room_id, ...without } = { ...pdu, ...FURTHER, type, content };
    const isRoom = type === 'm.room.create' && room.version.roomIsCreateEvent;
    const state_key = type === 'm.room.create' ? '' : people[0]!;
    return { ...without, state_key, ...(isRoom ? {} : { room_id }) } as Pdu;
  });
}

/** That Bob's server signed, which Synapse asks at another place. */
const signatures = { 'bob.example': { 'ed25519:1': '' } };

const allowed = (event: Event, state: StateMap, room: TestRoom): boolean =>
  authorise(
    { ...event, pdu: { ...event.pdu, signatures } },
    { create: room.create, state: (type, stateKeyText) => room.at(state, type, stateKeyText) },
    room.version,
  ).ok;

/** The verdict by the event's own auth events. */
function allowedByAuthEvents(event: Event, room: TestRoom): boolean {
  const cited = authEvents(event.pdu).map((id) => room.events.get(id)!);
  const state = new Map(cited.map(({ event: { id, pdu } }) => [stateKey(pdu.type, pdu.state_key ?? ''), id]));
  return checkAuthEvents(event, cited, room.version).ok && allowed(event, state, room);
}

/** Adds events to a room that nobody in their right mind would send, somewhere in its past. */
function addOddEvents(random: Random, room: TestRoom, count: number): Event[] {
  const states = [...room.stateAfter.keys()];
  const odd: readonly JsonObject[] = [
    { join_rule: 'knock_restricted' },
    { join_rule: 'restricted' },
    { join_rule: 'private' },
    { membership: 'join', join_authorised_via_users_server: people[1]! },
    {
      membership: 'invite',
      third_party_invite: { signed: { mxid: people[2]!, token: 'x', signatures: {} } },
    },
    { membership: 'unheard of' },
    { users: { 'not a user': 1 } },
    { users: { [people[1]!]: 'fifty' } },
    { users_default: '5', events: { 'm.room.name': '+07 ' } },
    { notifications: { room: 101 } },
    { redacts: '$x' },
  ];
  return Array.from({ length: count }, () => {
    const said = randomEvent(random, people.slice(0, 1), room.version);
    const prev = room.events.get(pick(random, states))!.event;
    const types = ['m.room.redaction', 'm.room.third_party_invite', 'm.room.message', said.type];
    const type = pick(random, types);
    const content = random.fraction() < 0.6 ? { ...said.content, ...pick(random, odd) } : said.content!;
    const isState = type === said.type || random.fraction() < 0.2;
    // Of a redaction that names nothing, the text of versions 1 and 2 says that it is rejected; Synapse allows it.
    const redacts = `$${random.integer(60)}:${pick(random, people).slice(1).split(':')[1]}`;
    const event = {
      type,
      sender: said.sender,
      content,
      ts: said.ts!,
      ...(type === 'm.room.redaction' && { redacts }),
    };
    return room.send([prev], isState ? { ...event, state_key: said.state_key! } : event);
  });
}

describe.skipIf(missing !== undefined)(
  `Synapse's rules (skipped where it cannot be installed: ${missing ?? 'it is'})`,
  () => {
    let synapse: SynapseRules;
    beforeAll(() => {
      synapse = new SynapseRules();
    });
    afterAll(() => synapse.stop());

    it.each(VERSIONS)('give the ids, hashes, redactions and signatures of version $id', async (version) => {
      const pdus = pdusOf(randomRoom(seededRandom(1), version, 0));
      const theirs = await synapse.identify(version.id, pdus);
      for (const [i, pdu] of pdus.entries()) {
        expect(theirs[i]!.error).toBeUndefined();
        const { unsigned: _, ...redacted } = theirs[i]!.redacted;
        expect({ ...theirs[i], redacted }, pdu.type).toEqual({
          id: eventId(pdu, version),
          content_hash: base64(contentHash(pdu, version)),
          reference_hash: base64(referenceHash(pdu, version)),
          redacted: redact(pdu, version),
          signature: addSignature(
            { id: '$' as EventId, room: pdu.room_id!, pdu },
            version,
            'domain' as ServerName,
            key,
          ).pdu.signatures.domain!['ed25519:1'],
        });
      }
    });

    it.each(VERSIONS.filter(({ strictJson }) => !strictJson))(
      'hash and sign numbers that JavaScript does not tell apart as we do, in version $id',
      async (version) => {
        const random = seededRandom(2);
        const [pdu] = pdusOf(randomRoom(random, version, 0));
        const pdus = [...NUMBERS, ...Array.from({ length: 200 }, () => randomNumber(random))].flatMap((n) => [
          { ...pdu!, content: parseJson(`{"n":[${n}]}`) as JsonObject },
          // Of these redaction leaves the numbers, so that the ids have them in.
          {
            ...pdu!,
            type: 'm.room.power_levels',
            content: parseJson(`{"users":{"@a:b":${n}},"x":${n}}`) as JsonObject,
          },
        ]);
        const theirs = await synapse.identify(version.id, pdus);
        for (const [i, pdu] of pdus.entries()) {
          const { id, content_hash, reference_hash, signature, error } = theirs[i]!;
          expect(error).toBeUndefined();
          // As it is after it was stored and sent on.
          const kept = parseJson(JSON.stringify(pdu)) as unknown as Pdu;
          const event = { id: '$' as EventId, room: pdu.room_id!, pdu: kept };
          expect({ id, content_hash, reference_hash, signature }, JSON.stringify(pdu.content)).toEqual({
            id: eventId(kept, version),
            content_hash: base64(contentHash(kept, version)),
            reference_hash: base64(referenceHash(kept, version)),
            signature: addSignature(event, version, 'domain' as ServerName, key).pdu.signatures.domain![
              'ed25519:1'
            ],
          });
        }
        const [infinite] = await synapse.identify(version.id, [
          {
            ...pdu!,
            content: { n: (JSON as unknown as { rawJSON(text: string): JsonObject }).rawJSON('1E400') },
          },
        ]);
        expect(infinite!.error).toContain('Out of range float');
      },
    );

    it.each(VERSIONS.filter(({ powerLevels }) => powerLevels !== 'integers'))(
      'tell power levels apart that a number of ours is not, in version $id',
      async (version) => {
        const counts = { allowed: 0, rejected: 0 };
        const levels = ['9007199254740992', '9007199254740993', '9007199254740994'];
        for (const quote of version.strictJson ? ['"'] : ['"', '']) {
          for (const mine of levels) {
            const room = randomRoom(seededRandom(3), version, 0);
            const [alice, bob] = people as [UserId, UserId];
            const set = (sender: UserId, users: string): Event =>
              room.send(
                [...room.events.values()].slice(-1).map(({ event }) => event),
                {
                  ...{ type: 'm.room.power_levels', state_key: '', sender },
                  content: parseJson(
                    `{"users":{"${alice}":${quote}9007199254740994${quote},${users}}}`,
                  ) as JsonObject,
                },
              );
            set(alice, `"${bob}":50`);
            const now = [...room.stateAfter.values()].at(-1)!;
            const events = levels.map((level) => set(bob, `"${bob}":${quote}${level}${quote}`));
            const power = room.send([], {
              ...{ type: 'm.room.power_levels', state_key: '', sender: alice },
              content: parseJson(`{"users":{"${bob}":${quote}${mine}${quote}}}`) as JsonObject,
            });
            const state = new Map([...now, [stateKey('m.room.power_levels', ''), power.id]]);
            await synapse.room(version.id, room.events.values());
            const theirs = await synapse.auth(events.map((event) => ({ event, state: [...state.values()] })));
            for (const [i, event] of events.entries()) {
              const ours = allowed(event, state, room);
              expect(ours, `${mine}: ${JSON.stringify(event.pdu.content)} ${theirs[i]!.error}`).toBe(
                theirs[i]!.allowed,
              );
              counts[ours ? 'allowed' : 'rejected']++;
            }
          }
        }
        expect(Math.min(counts.allowed, counts.rejected)).toBeGreaterThan(0);
      },
    );

    it.each(VERSIONS)('allow and reject the same events of version $id', async (version) => {
      const counts = { allowed: 0, rejected: 0 };
      for (let seed = 1; seed <= ROOMS; seed++) {
        const random = seededRandom(seed);
        const room = randomRoom(random, version, EVENTS_PER_ROOM, true);
        addOddEvents(random, room, EVENTS_PER_ROOM);
        await synapse.room(version.id, room.events.values());
        const states = [...room.stateAfter.values()];
        const checks = [...room.events.values()].flatMap(({ event }) => [
          { event, state: undefined },
          ...(event === room.create ? [] : [{ event, state: pick(random, states) }]),
        ]);
        const theirs = await synapse.auth(
          checks.map(({ event, state }) => ({ event, state: state && [...state.values()] })),
        );
        for (const [i, { event, state }] of checks.entries()) {
          const ours = state === undefined ? allowedByAuthEvents(event, room) : allowed(event, state, room);
          const label = `seed ${seed}: ${JSON.stringify(event.pdu)} Synapse: ${theirs[i]!.error}`;
          expect(ours, label).toBe(theirs[i]!.allowed);
          counts[ours ? 'allowed' : 'rejected']++;
        }
      }
      console.info(`version ${version.id}:`, counts);
      for (const count of Object.values(counts)) expect(count).toBeGreaterThan(100);
    });

    it.each(VERSIONS)('resolve forks of version $id to the same state', async (version) => {
      const counts = { conflicts: 0, rejectedEvents: 0, changed: 0 };
      for (let seed = 1; seed <= ROOMS; seed++) {
        const random = seededRandom(seed);
        const room = randomRoom(random, version, EVENTS_PER_ROOM, true);
        await synapse.room(version.id, room.events.values());
        for (const { rejected } of room.events.values()) if (rejected) counts.rejectedEvents++;
        for (let i = 0; i < RESOLUTIONS_PER_ROOM; i++) {
          // Synapse keeps rejected events out, which the text of the algorithm does not.
          const sets = randomSets(random, room, (event) => !room.isRejected(event));
          const theirs = sorted(await synapse.resolve(sets));
          expect(sorted(room.resolve(sets)), `seed ${seed}, resolution ${i}`).toEqual(theirs);
          const all = new Set(sets.flatMap((set) => sorted(set)));
          if (all.size > Math.max(...sets.map((set) => set.size))) counts.conflicts++;
          if (sets.every((set) => sorted(set).join() !== theirs.join())) counts.changed++;
        }
      }
      console.info(`version ${version.id}:`, counts);
      for (const count of Object.values(counts)) expect(count).toBeGreaterThan(5);
    });
  },
);
