import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromBase64 } from '../../src/base/bytes.ts';
import { publicKeyOf } from '../../src/crypto/ed25519.ts';
import { authorise, checkAuthEvents } from '../../src/matrix/event_auth.ts';
import { parsePdu } from '../../src/matrix/event_format.ts';
import { referencesTo } from '../../src/matrix/hashes.ts';
import type { EventId, KeyId, ServerName } from '../../src/matrix/ids.ts';
import { authEvents, type Event, type StateMap, stateKey } from '../../src/matrix/pdu.ts';
import { redact, redactedId } from '../../src/matrix/redaction.ts';
import type { RoomVersion } from '../../src/matrix/room_version.ts';
import { contentHashMatches, requiredSigners, verifyEventSignature } from '../../src/matrix/signing.ts';
import { VERSIONS } from '../matrix/rooms.ts';
import { synapseEnvironment } from './synapse_rules_peer.ts';
import { type KeptEvent, SynapseServer } from './synapse_rules_server.ts';

const missing = await synapseEnvironment.install();

describe.skipIf(missing !== undefined)(
  `rooms that Synapse makes (skipped where it cannot be installed: ${missing ?? 'it is'})`,
  () => {
    let folder: string;
    let synapse: SynapseServer;
    const tokens = new Map<string, string>();
    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), 'ravine-synapse-'));
      synapse = await SynapseServer.start(folder);
      for (const name of ['alice', 'bob', 'carol']) tokens.set(name, await synapse.register(name));
    });
    afterAll(async () => {
      await synapse?.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    const id = (name: string): string => `@${name}:synapse.test`;
    const as = (name: string, method: string, path: string, body = {}) =>
      synapse.client(method, path, tokens.get(name)!, body);

    /** A life with everything in it that the room version has. */
    async function makeRoom(version: RoomVersion): Promise<string> {
      const made = await as('alice', 'POST', '/createRoom', {
        room_version: version.id,
        preset: 'public_chat',
        name: 'Über \u2028 "rooms"',
      });
      const room = made.room_id as string;
      const at = `/rooms/${encodeURIComponent(room)}`;
      await as('bob', 'POST', `${at}/join`);
      const send = (name: string, type: string, body: object, transaction: string) =>
        as(name, 'PUT', `${at}/send/${type}/${transaction}`, body);
      const said = await send('bob', 'm.room.message', { msgtype: 'm.text', body: 'ä\u{1f600}' }, '1');
      const unwanted = await send('bob', 'm.room.message', { msgtype: 'm.text', body: 'unwanted' }, '2');
      await as('alice', 'PUT', `${at}/redact/${encodeURIComponent(unwanted.event_id as string)}/3`, {
        reason: 'unwanted',
      });
      const { users, ...levels } = await as('alice', 'GET', `${at}/state/m.room.power_levels`);
      await as('alice', 'PUT', `${at}/state/m.room.power_levels`, {
        ...levels,
        users: { ...(users as object), [id('bob')]: 50 },
        notifications: { room: 50 },
      });
      await as('bob', 'PUT', `${at}/state/m.room.topic`, { topic: 'a topic' });
      const rule = version.knockRestricted ? 'knock_restricted' : version.knocking ? 'knock' : 'invite';
      const allow = version.knockRestricted ? { allow: [{ type: 'm.room_membership', room_id: room }] } : {};
      await as('alice', 'PUT', `${at}/state/m.room.join_rules`, { join_rule: rule, ...allow });
      if (version.knocking) await as('carol', 'POST', `/knock/${encodeURIComponent(room)}`);
      await as('bob', 'POST', `${at}/invite`, { user_id: id('carol') });
      await as('carol', 'POST', `${at}/join`);
      await as('bob', 'POST', `${at}/kick`, { user_id: id('carol'), reason: 'off' });
      await as('bob', 'POST', `${at}/ban`, { user_id: id('carol') });
      await as('alice', 'POST', `${at}/unban`, { user_id: id('carol') });
      if (version.restrictedJoins) {
        const space = await as('alice', 'POST', '/createRoom', { invite: [id('carol')] });
        await as('carol', 'POST', `/rooms/${encodeURIComponent(space.room_id as string)}/join`);
        await as('alice', 'PUT', `${at}/state/m.room.join_rules`, {
          join_rule: 'restricted',
          allow: [{ type: 'm.room_membership', room_id: space.room_id }],
        });
        await as('carol', 'POST', `${at}/join`);
      }
      await as('bob', 'POST', `${at}/leave`);
      expect(said.event_id).toBeTypeOf('string');
      return room;
    }

    it.each(VERSIONS)(
      'have the ids, hashes and verdicts that we compute, in version $id',
      async (version) => {
        const room = await makeRoom(version);
        const kept = synapse.events(room);
        const [keyId, secret] = readFileSync(join(folder, 'signing.key'), 'utf8').trim().split(' ').slice(1);
        const publicKey = publicKeyOf(fromBase64(secret!)!);
        const signedBy = `ed25519:${keyId}` as KeyId;
        const events = new Map<EventId, Event>();
        let state: StateMap = new Map();
        const at = (type: string, key: string): Event | undefined =>
          events.get(state.get(stateKey(type, key)) ?? ('' as EventId));
        for (const { id: theirs, pdu, rejected } of kept) {
          const label = `${pdu.type} ${theirs}`;
          const parsed = parsePdu(pdu, version);
          if (!parsed.ok) throw new Error(`${label}: ${parsed.problem}`);
          const event = parsed.value;
          expect([event.id, event.room], label).toEqual([theirs, room]);
          expect(contentHashMatches(event.pdu, version), label).toBe(true);
          expect(requiredSigners(event.pdu, version)).toEqual(['synapse.test']);
          for (const copy of [event.pdu, redact(event.pdu, version)]) {
            const valid = verifyEventSignature(
              copy,
              version,
              'synapse.test' as ServerName,
              signedBy,
              publicKey,
            );
            expect(valid, label).toBe(true);
          }
          const cited = authEvents(event.pdu).map((auth) => events.get(auth)!);
          const checked = checkAuthEvents(
            event,
            cited.map((auth) => ({ event: auth, rejected: false })),
            version,
          );
          expect(checked, label).toEqual({ ok: true, value: undefined });
          // Only what it cites, and the whole state before it, which in a room of one server is a line.
          const create = at('m.room.create', '');
          const find = (type: string, key: string): Event | undefined =>
            cited.find((auth) => auth.pdu.type === type && auth.pdu.state_key === key);
          for (const lookup of [find, at]) {
            const verdict = authorise(event, { create, state: lookup }, version);
            expect(verdict, label).toEqual({ ok: true, value: undefined });
          }
          expect(rejected, label).toBe(false);
          const [reference] = event.pdu.prev_events;
          if (reference !== undefined && typeof reference !== 'string') {
            // Those of events that it made in one go have no hash.
            const references = Object.hasOwn(reference[1], 'sha256')
              ? referencesTo([events.get(reference[0])!], version)
              : [[reference[0], {}]];
            expect(references).toEqual([reference]);
          }
          events.set(event.id, event);
          if (pdu.state_key !== undefined)
            state = new Map([...state, [stateKey(pdu.type, pdu.state_key), event.id]]);
        }
        const redaction = kept.find(({ pdu }) => pdu.type === 'm.room.redaction') as KeptEvent;
        expect(events.has(redactedId(redaction.pdu, version)!)).toBe(true);
        expect(kept.length).toBeGreaterThan(15);
        const memberships = kept.map(({ pdu }) => pdu.content.membership);
        expect(memberships.includes('knock')).toBe(version.knocking);
        const authorised = kept.some(({ pdu }) =>
          Object.hasOwn(pdu.content, 'join_authorised_via_users_server'),
        );
        expect(authorised).toBe(version.restrictedJoins);
      },
    );
  },
);
