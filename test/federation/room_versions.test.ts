import { describe, expect, it } from 'vitest';
import { parsePdu } from '../../src/matrix/event_format.ts';
import type { DeviceId } from '../../src/matrix/ids.ts';
import type { Pdu } from '../../src/matrix/pdu.ts';
import { redactedId } from '../../src/matrix/redaction.ts';
import { ROOM_VERSIONS } from '../../src/matrix/room_version.ts';
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
