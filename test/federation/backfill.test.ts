import { beforeEach, describe, expect, it } from 'vitest';
import type { FederationCall } from '../../src/federation/transport.ts';
import type { Requester } from '../../src/homeserver/accounts.ts';
import { wholeFilter } from '../../src/homeserver/messages.ts';
import type { DeviceId, EventId, RoomId, UserId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { A, B, C, HOUR, testKey } from './fixtures.ts';
import { Network, openSide, type Side } from './sides.ts';

/*
 * A room of alice on A with a past, into which bob on B comes late:
 *
 *   create - ... - said 0 - said 1 - ... - bob's join - ...
 *   |___________ B knows the state only ___________|
 */

let network: Network;
let a: Side;
let b: Side;

const until = <T>(outcome: Promise<T>): Promise<T> => network.time.until(outcome, HOUR);
const BACKFILL = '/_matrix/federation/v1/backfill/';

beforeEach(async () => {
  network = new Network();
  a = await openSide(network, A, testKey(1), 1);
  b = await openSide(network, B, testKey(2), 2);
});

const asker = (user: UserId): Requester => ({ user, device: 'D' as DeviceId });

type Client = JsonObject & { readonly event_id: EventId };

/** Pages back from now until there is no more, as a client does. */
async function pagesOf(side: Side, user: string, room: RoomId, limit = 10): Promise<Client[][]> {
  const pages: Client[][] = [];
  let from: string | undefined;
  for (let page = 0; page < 200; page++) {
    const request = {
      requester: asker(side.user(user)),
      room,
      dir: 'b',
      limit,
      filter: wholeFilter(),
    } as const;
    const { chunk, end } = await until(side.history.messages({ ...request, from }));
    pages.push(chunk as Client[]);
    if (end === undefined) return pages;
    expect(end).not.toBe(from);
    from = String(end);
  }
  throw new Error('there is no end to it');
}

const idsOf = (pages: readonly Client[][]): EventId[] => pages.flat().map((event) => event.event_id);

const say = async (room: RoomId, count: number, text = 'said'): Promise<void> => {
  for (let i = 0; i < count; i++) await until(a.say(a.user('alice'), room, `${text} ${i}`));
};

const topic = (room: RoomId, text: string) =>
  until(a.rooms.setState(room, a.user('alice'), 'm.room.topic', '', { topic: text }));

/** Bob comes into a room of alice's. */
async function joined(room: RoomId): Promise<void> {
  await until(b.rooms.memberships.join(b.user('bob'), room, { via: [A] }));
  await network.time.pass(1_000);
}

const open = (options: JsonObject = {}): Promise<RoomId> =>
  until(a.rooms.create(a.user('alice'), { preset: 'public_chat', ...options }));

describe.each([
  ['in JSON', false],
  ['in short forms', true],
])('the past of a room, %s', (_, formed) => {
  beforeEach(() => {
    network.formed = formed;
  });

  it.each(['1', '5', '10', '12'])(
    'is the same on both servers in version %s, to its beginning',
    async (version) => {
      const room = await open({ room_version: version });
      await say(room, 12);
      await topic(room, 'one');
      await say(room, 5, 'then');
      await topic(room, 'two');
      await until(a.rooms.memberships.join(a.user('carol'), room, { via: [] }));
      await until(a.rooms.memberships.leave(a.user('carol'), room));
      await say(room, 3, 'last');
      await joined(room);
      const position = await b.database.get('SELECT position FROM stream');
      const there = idsOf(await pagesOf(a, 'alice', room));
      expect(idsOf(await pagesOf(b, 'bob', room))).toEqual(there);
      // It is here now: nobody is asked once more, and it was never delivered.
      const asked = network.count(B, A, BACKFILL);
      expect(idsOf(await pagesOf(b, 'bob', room, 7))).toEqual(there);
      expect(network.count(B, A, BACKFILL)).toBe(asked);
      expect(await b.database.get('SELECT position FROM stream')).toEqual(position);
      expect(await b.database.all('SELECT * FROM backward_extremities')).toEqual([]);
      expect(await b.state()).toEqual(await a.state());
      for (const id of there) expect(await b.rooms.event(id, B)).toEqual(await a.rooms.event(id, A));
    },
  );
});

describe('the past of a room', () => {
  it('takes one request for a hundred messages, and none for a state that did not change', async () => {
    const room = await open();
    await say(room, 99);
    await joined(room);
    await until(
      b.history.messages({
        requester: asker(b.user('bob')),
        room,
        dir: 'b',
        limit: 50,
        filter: wholeFilter(),
      }),
    );
    expect(network.count(B, A, BACKFILL)).toBe(1);
    expect([network.count(B, A, 'state_ids'), network.count(B, A, '/state/')]).toEqual([0, 0]);
    expect(b.remoteHistory.counters.backfilled).toBe(99);
  });

  it('has the state of each event, by which the past is judged', async () => {
    const room = await open();
    await topic(room, 'one');
    await say(room, 60);
    // Of the first batch, the events before this one.
    await topic(room, 'two');
    await say(room, 60, 'then');
    await joined(room);
    await pagesOf(b, 'bob', room, 50);
    const groups = async (side: Side): Promise<unknown[]> => {
      const rows = await side.database.all<{ event_id: EventId }>(
        "SELECT event_id FROM events WHERE type IN ('m.room.message', 'm.room.topic') ORDER BY depth",
      );
      return Promise.all(
        rows.map(async ({ event_id: id }) =>
          (await side.rooms.stateIds(room, id, side.serverName)).state.toSorted(),
        ),
      );
    };
    expect(await groups(b)).toEqual(await groups(a));
  });

  it('that branched is whole, and nothing of it comes twice', async () => {
    const c = await openSide(network, C, testKey(3), 3);
    const room = await open();
    await until(c.rooms.memberships.join(c.user('carol'), room, { via: [A] }));
    await network.time.pass(1_000);
    for (let round = 0; round < 3; round++) {
      network.passes = () => false;
      await say(room, 6, `here ${round}`);
      for (let i = 0; i < 4; i++) await until(c.say(c.user('carol'), room, `there ${round} ${i}`));
      network.passes = () => true;
      await network.time.pass(2 * HOUR);
      await say(room, 1, `merged ${round}`);
      await network.time.pass(1_000);
    }
    await joined(room);
    const here = idsOf(await pagesOf(b, 'bob', room, 5));
    expect(new Set(here).size).toBe(here.length);
    expect(here.toSorted()).toEqual(idsOf(await pagesOf(a, 'alice', room)).toSorted());
  });

  it('is whole after an outage too long for the gap to be filled', async () => {
    const room = await open();
    await joined(room);
    await until(a.sender.stop());
    await say(room, 250, 'lost');
    await a.database.transaction(async (tx) => {
      await tx.run('DELETE FROM outbox');
      await tx.run('DELETE FROM outbox_pdus');
    });
    await a.sender.start();
    await say(room, 1, 'found');
    await network.time.pass(1_000);
    const here = idsOf(await pagesOf(b, 'bob', room, 50));
    expect(new Set(here).size).toBe(here.length);
    expect(here.toSorted()).toEqual(idsOf(await pagesOf(a, 'alice', room, 50)).toSorted());
  });

  it('goes on behind what was said by a server that is gone with its keys, which is left out', async () => {
    const c = await openSide(network, C, testKey(3), 3);
    const room = await open();
    await say(room, 4);
    await until(c.rooms.memberships.join(c.user('carol'), room, { via: [A] }));
    await network.time.pass(1_000);
    for (let i = 0; i < 3; i++) {
      await until(c.say(c.user('carol'), room, `gone ${i}`));
      await network.time.pass(1_000);
      await say(room, 2, `stays ${i}`);
      await network.time.pass(1_000);
    }
    network.passes = (from, to) => from !== C && to !== C;
    await joined(room);
    const bodies = (pages: readonly Client[][]) =>
      pages.flat().flatMap(({ content }) => String((content as JsonObject).body ?? ''));
    const there = bodies(await pagesOf(a, 'alice', room)).filter((body) => body !== '');
    const stays = there.filter((body) => !body.startsWith('gone'));
    expect(there.length - stays.length).toBe(3);
    expect(bodies(await pagesOf(b, 'bob', room)).filter((body) => body !== '')).toEqual(stays);
  });

  it('that a redaction had been waiting for comes redacted', async () => {
    const room = await open();
    const regretted = await until(a.say(a.user('alice'), room, 'regretted'));
    await joined(room);
    await until(
      a.rooms.sending.redact(room, regretted, undefined, {
        user: a.user('alice'),
        device: 'D' as DeviceId,
        txnId: 'r',
      }),
    );
    await network.time.pass(1_000);
    const found = (await pagesOf(b, 'bob', room)).flat().find((event) => event.event_id === regretted);
    expect(found?.content).toEqual({});
  });

  it('is passed over where nobody can be asked, and is there when somebody can', async () => {
    const room = await open();
    await say(room, 5);
    await joined(room);
    network.passes = () => false;
    expect((await pagesOf(b, 'bob', room)).flat().map(({ type }) => type)).toEqual(['m.room.member']);
    network.passes = () => true;
    // It is not asked again at once.
    await pagesOf(b, 'bob', room);
    expect(network.count(B, A, BACKFILL)).toBe(0);
    await until(a.say(a.user('alice'), room, 'here again'));
    await network.time.pass(1_000);
    expect(idsOf(await pagesOf(b, 'bob', room))).toEqual(idsOf(await pagesOf(a, 'alice', room)));
  });

  it('is waited for so long and no longer, and goes on from there', async () => {
    const room = await open();
    await say(room, 30);
    await joined(room);
    network.delay = () => 45_000;
    const before = network.time.clock.monotonic();
    const request = {
      requester: asker(b.user('bob')),
      room,
      dir: 'b',
      limit: 10,
      filter: wholeFilter(),
    } as const;
    const first = await until(b.history.messages(request));
    expect(network.time.clock.monotonic() - before).toBe(20_000);
    expect((first.chunk as Client[]).map(({ type }) => type)).toEqual(['m.room.member']);
    const again = await until(b.history.messages({ ...request, from: String(first.end) }));
    const third = await until(b.history.messages({ ...request, from: String(again.end) }));
    expect([again.chunk, third.chunk]).toEqual([[], []]);
    expect([again.end, third.end]).not.toEqual([first.end, again.end]);
    await network.time.pass(2 * 60_000);
    network.delay = () => 0;
    const rest: Client[] = [];
    for (let from: unknown = third.end; from !== undefined; ) {
      const page = await until(b.history.messages({ ...request, from: String(from) }));
      rest.push(...(page.chunk as Client[]));
      from = page.end;
    }
    expect([...(first.chunk as Client[]), ...rest].map((event) => event.event_id)).toEqual(
      idsOf(await pagesOf(a, 'alice', room)),
    );
  });

  it('is not waited for by a server that ends', async () => {
    const room = await open();
    await say(room, 5);
    await joined(room);
    network.delay = () => 15_000;
    const request = { requester: asker(b.user('bob')), room, dir: 'b', filter: wholeFilter() } as const;
    const before = network.time.clock.monotonic();
    const page = b.history.messages({ ...request, limit: 10 });
    await network.time.pass(1_000);
    const stopped = b.remoteHistory.stop();
    expect((await until(page)).chunk).toHaveLength(1);
    expect(network.time.clock.monotonic() - before).toBe(1_000);
    await until(stopped);
    expect(network.time.clock.monotonic() - before).toBe(30_000);
    expect(await until(b.remoteHistory.backfill(room, []))).toBe(false);
  });

  it('goes on where it stopped when the server ended', async () => {
    const room = await open();
    await say(room, 150);
    await joined(room);
    const request = { requester: asker(b.user('bob')), room, dir: 'b', filter: wholeFilter() } as const;
    const first = await until(b.history.messages({ ...request, limit: 20 }));
    const next = await openSide(network, B, testKey(2), 4, b.database);
    const rest: Client[] = [];
    for (let from: unknown = first.end; from !== undefined; ) {
      const page = await until(next.history.messages({ ...request, limit: 50, from: String(from) }));
      rest.push(...(page.chunk as Client[]));
      from = page.end;
    }
    expect([...(first.chunk as Client[]), ...rest].map((event) => event.event_id)).toEqual(
      idsOf(await pagesOf(a, 'alice', room, 100)),
    );
  });
});

describe('a past that users of the server may not see', () => {
  const hidden = { type: 'm.room.history_visibility', content: { history_visibility: 'joined' } };

  it('is not asked for', async () => {
    const room = await open({ initial_state: [hidden] });
    await say(room, 5);
    await joined(room);
    expect((await pagesOf(b, 'bob', room)).flat().map(({ type }) => type)).toEqual(['m.room.member']);
    expect(network.count(B, A, BACKFILL)).toBe(0);
  });

  it('is told without what was said in it, and not at all to a server that is not in the room', async () => {
    const room = await open({ initial_state: [hidden] });
    await say(room, 3);
    const asked = (side: Side, from: EventId, limit = 10) => {
      const query = `v=${encodeURIComponent(from)}&limit=${limit}`;
      const path = `${BACKFILL}${encodeURIComponent(room)}`;
      return until(side.transport.request(A, { method: 'GET', path, query, timeoutMs: 1_000, priority: 4 }));
    };
    const [end] = await a.rooms.forwardExtremities(room);
    await expect(asked(b, end!)).rejects.toMatchObject({ status: 403, errcode: 'M_FORBIDDEN' });
    await joined(room);
    await say(room, 2, 'now');
    const [now] = await a.rooms.forwardExtremities(room);
    const pdus = ((await asked(b, now!, 6)).body as { pdus: JsonObject[] }).pdus;
    const byDepth = pdus.toSorted((x, y) => Number(y.depth) - Number(x.depth));
    expect(byDepth.map(({ type, content }) => [type, (content as JsonObject).body])).toEqual([
      ['m.room.message', 'now 1'],
      ['m.room.message', 'now 0'],
      ['m.room.member', undefined],
      ['m.room.message', undefined],
      ['m.room.message', undefined],
      ['m.room.message', undefined],
    ]);
    // Of another room nothing, whatever is asked from.
    const other = await until(a.rooms.create(a.user('alice'), { preset: 'private_chat' }));
    const [secret] = await a.rooms.forwardExtremities(other);
    expect((await asked(b, secret!)).body).toMatchObject({ pdus: [] });
  });
});

describe('a server that makes a past up', () => {
  it.each<[string, (pdus: JsonObject[]) => JsonObject[]]>([
    ['nothing', () => []],
    ['what was asked from, again and again', (pdus) => pdus.slice(0, 1)],
    ['events that hang together with nothing', (pdus) => pdus.slice(3)],
    ['no events', () => [{}, { type: 'x' }]],
    ['forged ones', (pdus) => pdus.map((pdu) => ({ ...pdu, sender: '@mallory:a.example' }))],
  ])('telling %s, is asked a few times and changes nothing', async (_, change) => {
    const scene = await fresh();
    scene.changed(change);
    const pages = await pagesOf(b, 'bob', scene.room);
    expect(pages.flat().map(({ type }) => type)).toEqual(['m.room.member']);
    expect(network.count(B, A, BACKFILL)).toBeLessThanOrEqual(2);
    expect(await b.state()).toEqual(scene.state);
  });

  it('telling one event less in the middle of each answer, still tells the rest in the end', async () => {
    const scene = await fresh();
    scene.changed((pdus) => pdus.toSpliced(4, 1));
    const pages = await pagesOf(b, 'bob', scene.room);
    expect(idsOf(pages)).toEqual(idsOf(await pagesOf(a, 'alice', scene.room)));
  });

  /** A room with a past, of which what A tells is changed on its way to B. */
  async function fresh() {
    const room = await open();
    await say(room, 10);
    await joined(room);
    const state = await b.state();
    const change = (transform: (pdus: JsonObject[]) => JsonObject[]): void => {
      const { transport } = b;
      const request = transport.request.bind(transport);
      transport.request = async (to, call: FederationCall, kind) => {
        const answer = await request(to, call, kind);
        if (!call.path.startsWith(BACKFILL)) return answer;
        const body = answer.body as { pdus: JsonObject[] };
        return { ...answer, body: { ...body, pdus: transform(body.pdus) } };
      };
    };
    return { room, state, changed: change };
  }
});
