import { describe, expect, test } from 'vitest';
import { type Random, seededRandom } from '../../../src/base/random.ts';
import type { DeviceId, EventId, RoomId, UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { CountsWorld, type ThreadCounts, USERS } from './counts_world.ts';

const SEEDS = [1, 2, 3, 4, 5, 6];
const STEPS = 150;

interface Told {
  readonly unread_notifications: { highlight_count: number; notification_count: number };
  readonly unread_thread_notifications?: Record<
    string,
    { highlight_count: number; notification_count: number }
  >;
}

/** A client that knows nothing but what /sync has told it, and does not want to see every event. */
class Client {
  readonly user: UserId;
  readonly #world: CountsWorld;
  readonly #byThread: boolean;
  readonly #counts = new Map<string, ThreadCounts>();
  #since: string | undefined;

  constructor(world: CountsWorld, user: UserId, byThread: boolean) {
    this.#world = world;
    this.user = user;
    this.#byThread = byThread;
  }

  async sync(): Promise<void> {
    const timeline = {
      limit: 2,
      unread_thread_notifications: this.#byThread,
      not_types: ['m.room.redaction', 'm.room.encrypted'],
    };
    const body = await this.#world.services.sync.sync({
      requester: { user: this.user, device: 'PHONE' as DeviceId },
      since: this.#since,
      timeoutMs: 0,
      filter: JSON.stringify({ room: { timeline, ephemeral: { types: [] } } }),
    });
    this.#since = String(body.next_batch);
    const { join } = body.rooms as unknown as { join: Record<string, Told> };
    for (const [room, told] of Object.entries(join)) {
      const counts: ThreadCounts = {};
      const threads = { '': told.unread_notifications, ...told.unread_thread_notifications };
      for (const [thread, { highlight_count, notification_count }] of Object.entries(threads))
        counts[thread] = { highlights: highlight_count, notifications: notification_count };
      expect(told.unread_thread_notifications === undefined).toBe(!this.#byThread);
      this.#counts.set(room, counts);
    }
  }

  /** What it shows of a room, whether or not it was told of it lately. */
  shown(room: RoomId): ThreadCounts {
    return this.#counts.get(room) ?? {};
  }

  check(room: RoomId, about: string): number {
    const expected = this.#world.expected(room, this.user);
    const total = (of: 'notifications' | 'highlights', all: ThreadCounts): number =>
      Object.values(all).reduce((sum, counts) => sum + counts[of], 0);
    const none = { notifications: 0, highlights: 0 };
    const whole = {
      notifications: total('notifications', expected),
      highlights: total('highlights', expected),
    };
    expect(this.shown(room), `${about}: ${this.user}`).toEqual(
      this.#byThread ? { '': none, ...expected } : { '': whole },
    );
    return whole.notifications;
  }
}

const bodyOf = (random: Random): JsonObject => ({
  msgtype: ['m.text', 'm.text', 'm.text', 'm.notice'][random.integer(4)]!,
  body: ['hello', 'a cake, ben', 'pancake', 'ann?'][random.integer(4)]!,
});

/**
 * A message, perhaps one that mentions, hangs on another one, or cannot be read.
 * @param roots those of the events that a thread can start from
 */
function message(
  random: Random,
  events: readonly EventId[],
  roots: readonly EventId[],
): { type: string; content: JsonObject } {
  const content = bodyOf(random);
  if (random.integer(4) === 0) content['m.mentions'] = { user_ids: [USERS[random.integer(3)]!] };
  else if (random.integer(6) === 0) content['m.mentions'] = { room: true };
  const kind = random.integer(8);
  const target = events[random.integer(Math.max(1, events.length))];
  if (target === undefined || kind > 4) return { type: 'm.room.message', content };
  if (kind === 4) return { type: 'm.room.encrypted', content: { algorithm: 'm.megolm.v1.aes-sha2' } };
  const rel_type = ['m.thread', 'm.thread', 'm.replace', 'm.annotation'][kind]!;
  const event_id =
    rel_type === 'm.thread' ? (roots[random.integer(Math.max(1, roots.length))] ?? target) : target;
  content['m.relates_to'] = { rel_type, event_id };
  return { type: rel_type === 'm.annotation' ? 'm.reaction' : 'm.room.message', content };
}

async function changeRules(
  world: CountsWorld,
  random: Random,
  user: UserId,
  rooms: readonly RoomId[],
): Promise<string> {
  const { pushRules } = world.services;
  const room = rooms[random.integer(rooms.length)]!;
  const put = (kind: string, id: string, body: JsonObject) =>
    pushRules.put(user, { kind, id }, { body, place: {} });
  const highlight = { set_tweak: 'highlight' };
  switch (random.integer(7)) {
    case 0:
      await put('room', room, { actions: [] });
      return 'room rule';
    case 1:
      await pushRules.delete(user, { kind: 'room', id: room }).catch(() => undefined);
      return 'rule deleted';
    case 2:
      await put('content', 'cake', { pattern: 'c?ke', actions: ['notify', highlight] });
      return 'content rule';
    case 3:
      await put('override', 'name', {
        conditions: [{ kind: 'contains_display_name' }],
        actions: ['notify', highlight],
      });
      return 'display name rule';
    case 4:
      await put('sender', USERS[random.integer(3)]!, { actions: ['dont_notify'] });
      return 'sender rule';
    case 5:
      await pushRules.set(
        user,
        { kind: 'override', id: '.m.rule.suppress_edits' },
        { enabled: random.integer(2) === 0 },
      );
      return 'predefined rule';
    default:
      await pushRules.set(
        user,
        { kind: 'override', id: '.m.rule.master' },
        { enabled: random.integer(4) === 0 },
      );
      return 'master rule';
  }
}

async function run(seed: number, count: (what: string, by?: number) => void): Promise<void> {
  const random = seededRandom(seed);
  const world = new CountsWorld();
  const rooms = [await world.createRoom(), await world.createRoom()];
  const sent = new Map<RoomId, EventId[]>(rooms.map((room) => [room, []]));
  const rootsOf = new Map<RoomId, EventId[]>(rooms.map((room) => [room, []]));
  const pick = <T>(of: readonly T[]): T => of[random.integer(of.length)]!;
  for (const user of USERS.slice(1)) for (const room of rooms) await world.join(room, user);
  const clients = USERS.map((user, at) => new Client(world, user, at !== 2));

  for (let step = 0; step < STEPS; step++) {
    const room = pick(rooms);
    const events = sent.get(room)!;
    const roots = rootsOf.get(room)!;
    const user = pick(world.joined(room));
    switch (random.integer(12)) {
      case 0: {
        const other = pick(USERS.slice(1));
        if (world.members.get(room)!.get(other) === 'join') await world.leave(room, other);
        else await world.join(room, other);
        count('membership');
        break;
      }
      case 1:
      case 2: {
        const event = events.length === 0 ? undefined : pick(events);
        if (event === undefined) break;
        const entry = world.log.find((each) => each.kind === 'event' && each.id === event);
        const own = entry?.kind === 'event' ? entry.thread || 'main' : 'main';
        const thread = pick([undefined, own]);
        // Of an event that was redacted nobody knows the thread any more.
        const isRedacted = world.log.some((each) => each.kind === 'redaction' && each.of === event);
        if (isRedacted && thread !== undefined) break;
        // The thread of what hangs on a redacted event has changed.
        if (thread !== undefined && entry?.kind === 'event') {
          if (world.threadOf(entry.event.content as JsonObject) !== entry.thread) break;
        }
        await world.read(room, user, event, pick(['read', 'readPrivate']), thread);
        count(thread === undefined ? 'receipts' : 'threaded receipts');
        break;
      }
      case 3:
        count(await changeRules(world, random, pick(USERS), rooms));
        break;
      case 4:
        if (events.length > 0 && random.integer(2) === 0) {
          await world.redact(room, USERS[0]!, pick(events));
          count('redactions');
        } else {
          const [one, other] = [pick(USERS), pick(USERS)];
          if (one !== other) await world.ignore(one, random.integer(3) === 0 ? other : undefined);
          count('ignored');
        }
        break;
      case 5:
        world.restart();
        count('restarts');
        break;
      case 6:
      case 7: {
        const client = pick(clients);
        await client.sync();
        for (const each of rooms)
          if (world.members.get(each)!.get(client.user) === 'join')
            count('unread', client.check(each, `seed ${seed}, step ${step}`));
        break;
      }
      default: {
        const { type, content } = message(random, events, roots);
        const event = await world.send(room, user, type, content);
        events.push(event);
        if (!Object.hasOwn(content, 'm.relates_to')) roots.push(event);
        if (world.threadOf(content) !== '') count('threaded');
      }
    }
  }
  for (const client of clients) {
    await client.sync();
    for (const room of rooms)
      if (world.members.get(room)!.get(client.user) === 'join') client.check(room, `seed ${seed}, end`);
  }
}

describe('unread counts', () => {
  const totals: Record<string, number> = {};
  test.each(SEEDS)('are what the log says, for a client that only applies /sync (seed %i)', async (seed) => {
    await run(seed, (what, by = 1) => {
      totals[what] = (totals[what] ?? 0) + by;
    });
  });

  test('have been through everything that can happen', () => {
    for (const what of [
      ...['membership', 'receipts', 'threaded receipts', 'room rule', 'rule deleted', 'content rule'],
      ...[
        'display name rule',
        'sender rule',
        'predefined rule',
        'master rule',
        'redactions',
        'ignored',
        'restarts',
      ],
    ])
      expect(totals[what] ?? 0, what).toBeGreaterThan(3);
    expect(totals.unread).toBeGreaterThan(80);
    expect(totals.threaded).toBeGreaterThan(30);
  });
});
