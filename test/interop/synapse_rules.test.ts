import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { base64, fromBase64 } from '../../src/base/bytes.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { authorise, checkAuthEvents } from '../../src/matrix/event_auth.ts';
import { contentHash, eventId, referenceHash } from '../../src/matrix/hashes.ts';
import type { EventId, KeyId, ServerName } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
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
