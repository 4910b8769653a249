import type { Random } from '../../../src/base/random.ts';
import { VirtualClock } from '../../../src/base/virtual_clock.ts';
import { Messages } from '../../../src/homeserver/messages.ts';
import { Notifier } from '../../../src/homeserver/notifier.ts';
import { Rooms } from '../../../src/homeserver/rooms/rooms.ts';
import { Sync } from '../../../src/homeserver/sync/sync.ts';
import type { DeviceId, EventId, KeyId, RoomId, ServerName, UserId } from '../../../src/matrix/ids.ts';
import { depthOf, type UnsignedPdu } from '../../../src/matrix/pdu.ts';
import { roomVersion } from '../../../src/matrix/room_version.ts';
import { signEvent, signingKey } from '../../../src/matrix/signing.ts';
import { temporaryDatabase } from '../../storage/temporary_database.ts';
import { Besides } from './besides.ts';
import type { ClientEvent } from './room_fixture.ts';

export const HERE = 'here' as ServerName;
const THERE = 'there' as ServerName;
export const CREATOR = '@creator:here' as UserId;
export const USERS = [CREATOR, '@ann:here', '@ben:here', '@cid:here'] as UserId[];
const ZOE = '@zoe:there' as UserId;

const V12 = roomVersion('12')!;
const keyOf = (byte: number) => signingKey('ed25519:1' as KeyId, new Uint8Array(32).fill(byte));

/** What the driver did: one event, known by what it put into it. */
export interface Done {
  readonly mark: string;
  readonly type: string;
  readonly stateKey: string | undefined;
  readonly membership: string | undefined;
  readonly id: EventId | undefined;
  readonly sender: UserId;
}

export interface DrivenRoom {
  readonly id: RoomId;
  readonly visibility: 'shared' | 'joined';
  /** The state right after its creation. */
  readonly made: readonly ClientEvent[];
  readonly log: Done[];
  readonly members: Map<UserId, string>;
  /** The events that the other server can build on, and Zoe's join. */
  readonly known: EventId[];
  join?: EventId;
}

/** By what the driver knows an event again. */
export function markOf(event: ClientEvent): string {
  const mark = event.content.mark ?? event.content.reason;
  return typeof mark === 'string' ? mark : event.event_id;
}

export const placeOf = (type: string, key: string): string => `${type} ${key}`;

/** A homeserver whose users do random things, and the log of what they did. */
export class Driver {
  readonly clock = new VirtualClock();
  readonly notifier = new Notifier({ clock: this.clock });
  readonly database = temporaryDatabase();
  readonly rooms: Rooms;
  readonly messages: Messages;
  readonly driven: DrivenRoom[] = [];
  readonly counts: Record<string, number> = {};
  readonly #random: Random;
  readonly #forks: boolean;
  readonly besides: Besides;
  sync: Sync;
  #marks = 0;

  constructor(random: Random, { forks }: { readonly forks: boolean }) {
    this.#random = random;
    this.#forks = forks;
    const refuse = async (): Promise<never> => {
      throw new Error('there is no other server to ask');
    };
    this.rooms = new Rooms({
      database: this.database,
      clock: this.clock,
      random: this.#random,
      serverName: HERE,
      signingKey: keyOf(1),
      remote: {
        join: refuse,
        imported: async () => undefined,
        leave: refuse,
        makeKnock: refuse,
        sendKnock: refuse,
        invite: refuse,
      },
      outbox: { enqueue: async () => undefined },
      notifier: this.notifier,
      profiles: { get: async () => undefined },
      localUserExists: async () => true,
    });
    this.messages = new Messages({ reader: this.database, clock: this.clock });
    this.besides = new Besides(this);
    this.sync = this.#newSync();
  }

  async restart(): Promise<void> {
    await this.besides.restart();
    this.sync = this.#newSync();
  }

  #newSync(): Sync {
    const filters = { get: async () => undefined };
    const { presence } = this.besides;
    return new Sync({ reader: this.database, clock: this.clock, notifier: this.notifier, filters, presence });
  }

  pick<T>(from: readonly T[]): T {
    return from[this.#random.integer(from.length)]!;
  }

  async createRoom(): Promise<void> {
    this.tick();
    const visibility = this.#forks ? 'shared' : this.pick(['shared', 'joined'] as const);
    const id = await this.rooms.create(CREATOR, {
      preset: 'public_chat',
      name: `room ${this.driven.length}`,
      power_level_content_override: { state_default: 0, events: {} },
      initial_state: [
        { type: 'm.room.history_visibility', state_key: '', content: { history_visibility: visibility } },
      ],
    });
    const made = (await this.rooms.queries.state(id, asker(CREATOR))) as unknown as ClientEvent[];
    const members = new Map<UserId, string>([[CREATOR, 'join']]);
    const room: DrivenRoom = { id, visibility, made, log: [], members, known: [] };
    this.driven.push(room);
    if (this.#forks) await this.#zoeJoins(room);
  }

  /** Lets one user do one thing in one room. */
  async act(): Promise<void> {
    this.tick();
    const room = this.pick(this.driven);
    const actions = [
      () => this.#say(room),
      () => this.#say(room),
      () => this.#setState(room),
      () => this.#moveMember(room),
      () => this.besides.act(room),
      () => this.besides.act(room),
    ];
    if (this.#forks) actions.push(() => this.#zoeActs(room));
    await this.pick(actions)();
    await this.besides.settled();
  }

  tick(): void {
    const end = this.clock.monotonic() + 1_000;
    for (let next = this.clock.next(); next !== null && next <= end; next = this.clock.next())
      this.clock.step();
    this.clock.advanceTo(end);
  }

  mark(): string {
    return `mark${++this.#marks}`;
  }

  count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  #log(room: DrivenRoom, done: Partial<Done> & { mark: string; type: string }): void {
    room.log.push({ stateKey: undefined, membership: undefined, id: undefined, sender: CREATOR, ...done });
    if (done.id !== undefined) room.known.push(done.id);
  }

  joined(room: DrivenRoom): UserId[] {
    return [...room.members].flatMap(([user, membership]) => (membership === 'join' ? [user] : []));
  }

  async #say(room: DrivenRoom): Promise<void> {
    const mark = this.mark();
    const sender = this.pick(this.joined(room).filter((user) => user !== ZOE));
    const from = { ...asker(sender), txnId: mark };
    const id = await this.rooms.sending.send(room.id, 'm.room.message', { mark, body: mark }, from);
    this.#log(room, { mark, type: 'm.room.message', id, sender });
    await this.besides.sent(room, sender);
    this.count('messages');
  }

  async #setState(room: DrivenRoom): Promise<void> {
    const mark = this.mark();
    const sender = this.pick(this.joined(room).filter((user) => user !== ZOE));
    const [type, stateKey] = this.pick([
      ['m.room.topic', ''],
      ['x.note', 'a'],
      ['x.note', 'b'],
    ] as const);
    const id = await this.rooms.setState(room.id, sender, type, stateKey, { mark });
    this.#log(room, { mark, type, stateKey, id, sender });
    this.count('state');
  }

  /** Moves one user from what they are in a room to something that they can become. */
  async #moveMember(room: DrivenRoom): Promise<void> {
    const { memberships } = this.rooms;
    const user = this.pick(USERS.filter((each) => each !== CREATOR));
    const mark = this.mark();
    const was = room.members.get(user) ?? 'leave';
    const becomes = {
      join: ['leave', 'kick', 'ban'],
      leave: ['join', 'join', 'invite', 'ban'],
      invite: ['join', 'leave'],
      ban: ['unban'],
    }[was]!;
    const step = this.pick(becomes);
    if (step === 'join') await memberships.join(user, room.id, { reason: mark });
    else if (step === 'leave') await memberships.leave(user, room.id, mark);
    else if (step === 'invite') await memberships.invite(CREATOR, room.id, user, { reason: mark });
    else if (step === 'kick') await memberships.kick(CREATOR, room.id, user, mark);
    else if (step === 'ban') await memberships.ban(CREATOR, room.id, user, mark);
    else await memberships.unban(CREATOR, room.id, user, mark);
    const membership = step === 'kick' || step === 'unban' ? 'leave' : step;
    room.members.set(user, membership);
    this.#log(room, { mark, type: 'm.room.member', stateKey: user, membership });
    this.count(step);
  }

  async #zoeJoins(room: DrivenRoom): Promise<void> {
    const { event } = await this.rooms.makeJoin(room.id, ZOE, ['12']);
    const mark = this.mark();
    const join = signEvent({ ...event, content: { ...event.content, mark } }, V12, THERE, keyOf(2));
    await this.rooms.sendJoin(join);
    room.members.set(ZOE, 'join');
    room.join = join.id;
    this.#log(room, { mark, type: 'm.room.member', stateKey: ZOE, membership: 'join', id: join.id });
  }

  /** Zoe's server has heard nothing since some event, and builds on that one. */
  async #zoeActs(room: DrivenRoom): Promise<void> {
    const mark = this.mark();
    const prev = (await this.rooms.event(this.pick(room.known.slice(-6)), THERE))!;
    const power = room.made.find((event) => event.type === 'm.room.power_levels')!;
    const place = this.pick([undefined, ['m.room.topic', ''], ['x.note', 'a']] as const);
    const unsigned: UnsignedPdu = {
      type: place?.[0] ?? 'm.room.message',
      ...(place === undefined ? {} : { state_key: place[1] }),
      sender: ZOE,
      room_id: room.id,
      content: { mark },
      origin_server_ts: this.clock.wall(),
      depth: depthOf(prev.pdu) + 1,
      prev_events: [prev.id],
      auth_events: [power.event_id as EventId, room.join!],
    };
    const event = signEvent(unsigned, V12, THERE, keyOf(2));
    const received = await this.rooms.receive(event);
    if (received.kind !== 'accepted') throw new Error(`Zoe's event is ${JSON.stringify(received)}`);
    this.#log(room, { mark, type: unsigned.type, stateKey: place?.[1], id: event.id, sender: ZOE });
    this.count('remote');
  }

  /**
   * What a user may see of what was done, by marks: in a `shared` room everything up to their last leave, once they
   * have joined; in a `joined` room what was done while they were there, their own coming and going with it. Their
   * membership events while they are not there are not part of it.
   * @param wanted what of it a filter lets through, and of whom
   */
  visible(room: DrivenRoom, user: UserId, wanted: (done: Done) => boolean = () => true): string[] {
    let joined = user === CREATOR;
    let ever = joined;
    const seen: { mark: string; while: boolean; wanted: boolean }[] = [];
    let upToDeparture = 0;
    for (const done of room.log) {
      const own = done.type === 'm.room.member' && done.stateKey === user;
      const before = joined;
      if (own) joined = done.membership === 'join';
      ever ||= joined;
      if (!own || before || joined) {
        seen.push({ mark: done.mark, while: before || joined, wanted: wanted(done) });
      }
      if (own && before && !joined) upToDeparture = seen.length;
    }
    const within = joined ? seen : seen.slice(0, upToDeparture);
    if (!ever) return [];
    return within
      .filter((each) => each.wanted && (room.visibility === 'shared' || each.while))
      .map(({ mark }) => mark);
  }

  /** The state of a room by the log: the mark at each place. Only where nothing was concurrent. */
  loggedState(room: DrivenRoom): Map<string, string> {
    const state = new Map(room.made.map((event) => [placeOf(event.type, event.state_key!), markOf(event)]));
    for (const { type, stateKey, mark } of room.log) {
      if (stateKey !== undefined) state.set(placeOf(type, stateKey), mark);
    }
    return state;
  }

  /** The state of a room as the rooms service resolves it. */
  async resolvedState(room: DrivenRoom): Promise<Map<string, string>> {
    const events = (await this.rooms.queries.state(room.id, asker(CREATOR))) as unknown as ClientEvent[];
    return new Map(events.map((event) => [placeOf(event.type, event.state_key!), markOf(event)]));
  }
}

export const asker = (user: UserId): { user: UserId; device: DeviceId } => ({
  user,
  device: 'DEVICE' as DeviceId,
});
