import { describe, expect, it } from 'vitest';
import { pduJson } from '../../src/federation/pdu_json.ts';
import { parseRoomEventFilter } from '../../src/homeserver/filter_events.ts';
import { Messages } from '../../src/homeserver/messages.ts';
import { canonicalText } from '../../src/matrix/canonical_json.ts';
import { parsePdu } from '../../src/matrix/event_format.ts';
import { referencesTo } from '../../src/matrix/hashes.ts';
import type { DeviceId, EventId } from '../../src/matrix/ids.ts';
import { type JsonObject, parseJson } from '../../src/matrix/json.ts';
import type { Pdu } from '../../src/matrix/pdu.ts';
import { redactedId } from '../../src/matrix/redaction.ts';
import { ROOM_VERSIONS } from '../../src/matrix/room_version.ts';
import { contentHashMatches, signEvent } from '../../src/matrix/signing.ts';
import { eventsById } from '../../src/storage/events.ts';
import { A, B, HOUR, testKey } from './fixtures.ts';
import { Network, openSide, type Side } from './sides.ts';

const stored = (side: Side) =>
  side.database.all<{ id: string; json: string; status: string; redacted_by: string | null }>(
    'SELECT event_id AS id, json, status, redacted_by FROM events ORDER BY id',
  );

describe('two servers', () => {
  it.each([...ROOM_VERSIONS.values()])(
    'live in a room of version $id: invite, join, talk, quarrel, redact, leave',
    async (version) => {
      const network = new Network();
      network.signed = true;
      const { time } = network;
      const within = <T>(outcome: Promise<T>): Promise<T> => time.until(outcome, HOUR);
      const a = await openSide(network, A, testKey(1), 1);
      const b = await openSide(network, B, testKey(2), 2);
      const [alice, bob] = [a.user('alice'), b.user('bob')];
      const room = await within(
        a.rooms.create(alice, { preset: 'private_chat', name: 'Ravine', room_version: version.id }),
      );
      await within(a.rooms.memberships.invite(alice, room, bob));
      await within(b.rooms.memberships.join(bob, room, {}));
      await within(a.say(alice, room, 'hello bob'));
      await time.pass(1_000);
      const unwanted = await within(b.say(bob, room, 'hello alice'));
      await time.pass(1_000);

      // Both go on by themselves: two ends, two topics.
      const levels = { users: { [bob]: 50, ...(!version.privilegedCreators && { [alice]: 100 }) } };
      await within(a.rooms.sending.setState(room, alice, 'm.room.power_levels', '', levels));
      await time.pass(1_000);
      network.passes = () => false;
      await within(a.rooms.sending.setState(room, alice, 'm.room.topic', '', { topic: 'of A' }));
      await within(b.rooms.sending.setState(room, bob, 'm.room.topic', '', { topic: 'of B' }));
      await within(b.rooms.sending.setState(room, bob, 'm.room.name', '', { name: 'of B' }));
      await time.pass(1_000);
      network.passes = () => true;
      await time.pass(2 * HOUR);
      expect(await b.state()).toEqual(await a.state());

      await within(
        a.rooms.sending.redact(room, unwanted, 'unwanted', {
          user: alice,
          device: 'D' as DeviceId,
          txnId: 'r',
        }),
      );
      await time.pass(1_000);
      await within(b.rooms.memberships.leave(bob, room));
      await time.pass(1_000);
      expect(await b.state()).toEqual(await a.state());

      for (const side of [a, b]) {
        const rows = await stored(side);
        expect(rows.length).toBeGreaterThan(10);
        expect(rows.map(({ status }) => status)).not.toContain('rejected');
        for (const { id, json } of rows) {
          const parsed = parsePdu(JSON.parse(json), version);
          expect(parsed.ok && [parsed.value.id, parsed.value.room]).toEqual([id, room]);
        }
        const redaction = rows.find(({ json }) => JSON.parse(json).type === 'm.room.redaction')!;
        expect(redactedId(JSON.parse(redaction.json) as Pdu, version)).toBe(unwanted);
        const redacted = rows.find(({ id }) => id === unwanted)!;
        expect([redacted.redacted_by, JSON.parse(redacted.json).content]).toEqual([redaction.id, {}]);
      }
    },
  );
});

describe('numbers that JavaScript does not tell from others', () => {
  const NUMBERS =
    '{"n":[1.0,1e3,-0.0,1152921504606846977,-9007199254740993,123456789012345678901234567890,0.5]}';
  const CANONICAL =
    '{"n":[1.0,1000.0,-0.0,1152921504606846977,-9007199254740993,123456789012345678901234567890,0.5]}';

  it.each(
    [...ROOM_VERSIONS.values()]
      .filter(({ strictJson }) => !strictJson)
      .flatMap((version) => [
        { version, id: version.id, form: 'as JSON' },
        { version, id: version.id, form: 'in short forms' },
      ]),
  )('are kept from server to server, on the disk and for clients in version $id, $form', async (case_) => {
    const { version } = case_;
    const network = new Network();
    network.signed = case_.form === 'as JSON';
    network.formed = !network.signed;
    const { time } = network;
    const within = <T>(outcome: Promise<T>): Promise<T> => time.until(outcome, HOUR);
    const a = await openSide(network, A, testKey(1), 1);
    const b = await openSide(network, B, testKey(2), 2);
    const [alice, bob] = [a.user('alice'), b.user('bob')];
    const room = await within(a.rooms.create(alice, { preset: 'public_chat', room_version: version.id }));
    const content = parseJson(NUMBERS) as JsonObject;
    await within(a.rooms.sending.setState(room, alice, 'x.state', '', content));
    await within(b.rooms.memberships.join(bob, room, { via: [A] }));
    await time.pass(1_000);
    const sent = await within(
      a.rooms.sending.send(room, 'x.said', content, { user: alice, device: 'D' as DeviceId, txnId: '1' }),
    );
    await time.pass(1_000);

    // What no server of ours makes, but others may: as deep as it goes.
    const [last] = await eventsById(a.database, [sent]);
    const { hashes: _, signatures: __, ...fields } = last!.event.pdu;
    const deepest = signEvent(
      {
        ...fields,
        depth: parseJson('9223372036854775807') as Pdu['depth'],
        ...(version.eventIds === 'stated' && { event_id: '$deepest:a.example' as EventId }),
        prev_events: referencesTo([last!.event], version),
      },
      version,
      A,
      testKey(1),
    );
    await within(
      network.transportOf(A, testKey(1)).request(B, {
        ...{ method: 'PUT', path: '/_matrix/federation/v1/send/t', timeoutMs: HOUR, priority: 3 },
        body: { origin: A, origin_server_ts: 1, pdus: [pduJson(deepest.pdu)] },
      }),
    );
    await time.pass(1_000);

    const rows = (await stored(b)).filter(({ json }) => json.includes('"x.'));
    expect(rows.map(({ id }) => id)).toEqual(expect.arrayContaining([sent, deepest.id]));
    expect(rows).toHaveLength(3);
    for (const { id, json, redacted_by: by } of rows) {
      expect(by).toBeNull();
      const parsed = parsePdu(parseJson(json), version);
      expect(parsed.ok && [parsed.value.id, contentHashMatches(parsed.value.pdu, version)]).toEqual([
        id,
        true,
      ]);
      const event = (await b.rooms.event(id as EventId, A))!;
      expect(canonicalText(event.pdu.content, 'any')).toBe(CANONICAL);
    }
    const filter = parseRoomEventFilter({ types: ['x.*'] });
    const { chunk } = await new Messages({ reader: b.database, clock: time.clock }).messages({
      requester: { user: bob, device: 'D' as DeviceId },
      ...{ room, dir: 'b', limit: 9, filter: filter.ok && filter.value },
    } as Parameters<Messages['messages']>[0]);
    for (const { content: shown } of chunk as JsonObject[])
      expect(canonicalText(parseJson(JSON.stringify(shown)), 'any')).toBe(CANONICAL);
    // The state is from before the join.
    expect(chunk).toHaveLength(2);
    expect(await b.rooms.forwardExtremities(room)).toEqual([deepest.id]);
    // The room goes on behind it.
    const after = await within(b.say(bob, room, 'still here'));
    expect(await b.rooms.forwardExtremities(room)).toEqual([after]);
  });
});

describe('a room that a server is not in', () => {
  const versions = [...ROOM_VERSIONS.values()];

  it.each(versions)('may take an invite back in version $id', async (version) => {
    const network = new Network();
    network.signed = true;
    const within = <T>(outcome: Promise<T>): Promise<T> => network.time.until(outcome, HOUR);
    const a = await openSide(network, A, testKey(1), 1);
    const b = await openSide(network, B, testKey(2), 2);
    const [alice, bob] = [a.user('alice'), b.user('bob')];
    const room = await within(a.rooms.create(alice, { preset: 'private_chat', room_version: version.id }));
    await within(a.rooms.memberships.invite(alice, room, bob));
    const membership = () =>
      b.database.get('SELECT membership FROM memberships WHERE room = ? AND user_id = ?', room, bob);
    expect(await membership()).toEqual({ membership: 'invite' });
    // Servers before v1.16 send no create event, so that only the event's own form tells of the version.
    await b.database.transaction((tx) => tx.run("UPDATE memberships SET invite_state = '[]'"));
    await within(a.rooms.memberships.kick(alice, room, bob));
    await network.time.pass(1_000);
    expect(await membership()).toEqual({ membership: 'leave' });
    expect(b.receiver.counters).toMatchObject({ accepted: 1, refused: 0 });
  });

  it.each(versions)(
    'sends events while it is being joined, which are kept in version $id',
    async (version) => {
      const network = new Network();
      network.signed = true;
      const within = <T>(outcome: Promise<T>): Promise<T> => network.time.until(outcome, HOUR);
      const a = await openSide(network, A, testKey(1), 1);
      const b = await openSide(network, B, testKey(2), 2);
      const [alice, bob] = [a.user('alice'), b.user('bob')];
      const room = await within(a.rooms.create(alice, { preset: 'public_chat', room_version: version.id }));
      let said: string[] = [];
      let waiting: { id: string }[] = [];
      network.beforeAnswer = async ({ path }) => {
        if (!path.includes('/send_join/')) return;
        said = [await a.say(alice, room, 'one'), await a.say(alice, room, 'two')];
        const send = { method: 'PUT', timeoutMs: HOUR, priority: 3 } as const;
        const events = await eventsById(a.database, said as EventId[]);
        await network.transportOf(A, testKey(1)).request(B, {
          ...{ ...send, path: '/_matrix/federation/v1/send/early' },
          body: { origin: A, origin_server_ts: 1, pdus: events.map(({ event }) => pduJson(event.pdu)) },
        });
        waiting = await b.database.all<{ id: string }>('SELECT event_id AS id FROM inbox ORDER BY position');
      };
      await within(b.rooms.memberships.join(bob, room, { via: [A] }));
      await network.time.pass(10_000);
      expect(waiting.map(({ id }) => id).sort()).toEqual(said.toSorted());
      const timeline = await b.database.all<{ id: string }>(
        "SELECT event_id AS id FROM events WHERE status = 'timeline' AND type = 'm.room.message'",
      );
      expect(timeline.map(({ id }) => id).sort()).toEqual(said.toSorted());
      expect(b.receiver.counters.refused).toBe(0);
    },
  );
});
