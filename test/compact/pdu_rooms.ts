import { base64 } from '../../src/base/bytes.ts';
import type { Random } from '../../src/base/random.ts';
import { authPlaces, hashesOf, idOf, referenceTo } from '../../src/compact/pdu/rules.ts';
import type { KnownEvent, PduView } from '../../src/compact/pdu/view.ts';
import { canonicalJson } from '../../src/matrix/canonical_json.ts';
import { referenceHash } from '../../src/matrix/hashes.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { depthOf, type Pdu, type StateKey, stateKey } from '../../src/matrix/pdu.ts';
import { ROOM_VERSIONS as ALL, type RoomVersion } from '../../src/matrix/room_version.ts';

export const ROOM_VERSIONS: readonly RoomVersion[] = [...ALL.values()];

export const ALICE = '@alice:a.example';
export const BOB = '@bob:b.example';
export const USUAL_KEY = 'ed25519:1';
export const signature = (random: Random): string => {
  const bytes = random.bytes(64);
  bytes[63]! &= 0x1f;
  return base64(bytes);
};

export const pick = <Item>(random: Random, items: readonly Item[]): Item =>
  items[random.integer(items.length)]!;

/** What somebody says; the rest follows from where it is said. */
export interface Said {
  readonly type: string;
  readonly sender: string;
  readonly content: JsonObject;
  readonly state_key?: string;
}

/** A room of two servers that is nothing but its events: no rules are kept but those of the format. */
export class PduRoom {
  readonly version: RoomVersion;
  readonly random: Random;
  readonly room: string;
  readonly events = new Map<string, { readonly pdu: JsonObject; readonly known: KnownEvent }>();
  readonly stateAfter = new Map<string, ReadonlyMap<StateKey, string>>();
  extremities: string[] = [];
  clock = 1_790_000_000_000;

  constructor(version: RoomVersion, random: Random) {
    this.version = version;
    this.random = random;
    const content: JsonObject = { room_version: version.id, creator: ALICE };
    const create = { type: 'm.room.create', sender: ALICE, state_key: '', content };
    if (version.id === '12') {
      this.room = '';
      const pdu = this.make(create);
      this.room = `!${idOf(pdu, version).slice(1)}`;
      this.add(pdu);
    } else {
      this.room = '!room:a.example';
      this.add(this.make(create));
    }
    const join = { membership: 'join' };
    this.add(this.make({ type: 'm.room.member', sender: ALICE, state_key: ALICE, content: join }));
    this.add(
      this.make({
        type: 'm.room.power_levels',
        sender: ALICE,
        state_key: '',
        content: { users: { [ALICE]: 100 } },
      }),
    );
    this.add(
      this.make({
        type: 'm.room.join_rules',
        sender: ALICE,
        state_key: '',
        content: { join_rule: 'public' },
      }),
    );
    this.add(this.make({ type: 'm.room.member', sender: BOB, state_key: BOB, content: join }));
  }

  /** The extremities in the order in which a server names them: the deepest first. */
  ends(): string[] {
    const depth = (id: string): number => this.events.get(id)!.known.depth;
    return [...this.extremities].sort((a, b) => depth(b) - depth(a) || (a < b ? -1 : 1));
  }

  /** An event behind `prev`, with all that the format wants, and signatures that are only bytes. */
  make(said: Said, prev: readonly string[] = this.ends()): JsonObject {
    this.clock += this.random.integer(600_000);
    const known = prev.map((id) => this.events.get(id)!.known);
    const subject = { ...said, stateKey: said.state_key };
    const state = this.stateBefore(prev);
    const auth = authPlaces(subject, this.version).flatMap((place) => state.get(place) ?? []);
    const reference = (id: string): JsonValue => referenceTo(id, this.events.get(id)?.known, this.version)!;
    const pdu: JsonObject = {
      ...(said as unknown as JsonObject),
      origin_server_ts: this.clock,
      depth: Math.min(Number.MAX_SAFE_INTEGER, Math.max(0, ...known.map(({ depth }) => depth)) + 1),
      prev_events: prev.map(reference),
      auth_events: auth.map(reference),
    };
    if (said.type !== 'm.room.create' || this.version.id !== '12') pdu.room_id = this.room;
    if (Number(this.version.id) <= 2) pdu.event_id = `$${this.random.integer(2 ** 32)}:a.example`;
    return this.finish(pdu);
  }

  /** Hashes and signs. */
  finish(pdu: JsonObject): JsonObject {
    const server = String(pdu.sender).replace(/^[^:]*:/, '');
    const signatures = { [server]: { [USUAL_KEY]: signature(this.random) } };
    return { ...pdu, hashes: hashesOf(pdu, this.version), signatures };
  }

  add(pdu: JsonObject): string {
    const fields = pdu as unknown as Pdu;
    const id = idOf(pdu, this.version);
    const known = {
      id,
      depth: depthOf(fields),
      originServerTs: fields.origin_server_ts,
      referenceHash: referenceHash(fields, this.version),
    };
    const prev = this.prevOf(pdu);
    const state = new Map(this.stateBefore(prev));
    if (fields.state_key !== undefined) state.set(stateKey(fields.type, fields.state_key), id);
    this.events.set(id, { pdu, known });
    this.stateAfter.set(id, state);
    this.extremities = [...this.extremities.filter((one) => !prev.includes(one)), id];
    return id;
  }

  prevOf(pdu: JsonObject): string[] {
    return (pdu.prev_events as JsonValue[]).map((one) => String(Array.isArray(one) ? one[0] : one));
  }

  /** Later events win: good enough where no rules are kept. */
  stateBefore(prev: readonly string[]): ReadonlyMap<StateKey, string> {
    return new Map(prev.flatMap((id) => [...(this.stateAfter.get(id) ?? [])]));
  }

  /** What a side knows that has every event so far, less those that `lacks` names. */
  view(changes: Partial<PduView> & { readonly lacks?: (id: string) => boolean } = {}): PduView {
    const { lacks = () => false, ...others } = changes;
    const has = (id: string): boolean => this.events.has(id) && !lacks(id);
    return {
      version: this.version,
      room: this.room,
      extremities: () => this.extremities.filter(has).map((id) => this.events.get(id)!.known),
      event: (id) => (has(id) ? this.events.get(id)!.known : undefined),
      state: (places) => {
        const state = this.stateBefore(this.extremities.filter(has));
        return places.flatMap((place) => state.get(place) ?? []);
      },
      usualKey: () => USUAL_KEY,
      usualSender: ALICE,
      referenceTs: 1_790_000_000_000,
      ...others,
    };
  }
}

const WORDS = ['Hello World', 'Salut, ça va ?', 'да', '', '😀', 'line\nline', '\u0000', 'a'.repeat(300)];

/** Something that somebody could say in any room. */
export function randomSaid(random: Random): Said {
  const sender = pick(random, [ALICE, BOB, '@carol:c.example', '@:a.example']);
  const body = pick(random, WORDS);
  return pick<Said>(random, [
    { type: 'm.room.message', sender, content: { body, msgtype: 'm.text' } },
    { type: 'm.room.message', sender, content: { body, msgtype: 'm.notice', 'm.mentions': {} } },
    { type: 'm.room.encrypted', sender, content: { algorithm: 'm.megolm.v1.aes-sha2', ciphertext: 'AwgA' } },
    { type: 'm.room.redaction', sender, content: { redacts: '$x', reason: body } },
    { type: 'm.room.topic', sender, state_key: '', content: { topic: body } },
    {
      type: 'org.example.thing',
      sender,
      state_key: body,
      content: { n: random.integer(1000), deep: [[{}]] },
    },
    { type: 'm.room.member', sender, state_key: sender, content: { membership: 'join', displayname: body } },
    {
      type: 'm.room.member',
      sender,
      state_key: '@dave:d.example',
      content: { membership: 'invite', third_party_invite: { signed: { token: 'x' } } },
    },
    {
      type: 'm.room.member',
      sender,
      state_key: sender,
      content: { membership: 'join', join_authorised_via_users_server: ALICE },
    },
  ]);
}

/** A room with a history in which some events were sent at the same time. */
export function randomRoom(version: RoomVersion, random: Random): PduRoom {
  const room = new PduRoom(version, random);
  for (let left = random.integer(12); left > 0; left--) {
    const behind = random.integer(3) === 0 ? [pick(random, [...room.events.keys()])] : undefined;
    room.add(room.make(randomSaid(random), behind));
  }
  return room;
}

type Change = (pdu: JsonObject, random: Random, room: PduRoom) => JsonObject;

/** What makes an event differ from what its reader computes; each gives an event with right hashes. */
const HASHED_CHANGES: readonly Change[] = [
  (pdu) => ({ ...pdu, depth: Math.min(Number(pdu.depth) + 7, Number.MAX_SAFE_INTEGER) }),
  (pdu) => ({ ...pdu, depth: Number.MAX_SAFE_INTEGER }),
  (pdu) => ({ ...pdu, origin_server_ts: -5 }),
  (pdu) => ({ ...pdu, origin_server_ts: -Number.MAX_SAFE_INTEGER }),
  (pdu) => ({ ...pdu, origin_server_ts: Number.MAX_SAFE_INTEGER }),
  (pdu) => ({ ...pdu, origin: 'a.example', membership: 'join', redacts: '$y:a.example' }),
  (pdu) => ({ ...pdu, [strangeKey(pdu)]: { nested: [1, null, 'x'] } }),
  (pdu) => ({ ...pdu, room_id: '!other:a.example' }),
  (pdu) => ({ ...pdu, prev_events: [...(pdu.prev_events as JsonValue[])].reverse() }),
  (pdu) => ({ ...pdu, prev_events: [] }),
  (pdu) => ({
    ...pdu,
    prev_events: [...(pdu.prev_events as JsonValue[]), ...(pdu.prev_events as JsonValue[])],
  }),
  (pdu) => ({ ...pdu, auth_events: [...(pdu.auth_events as JsonValue[])].reverse() }),
  (pdu) => ({ ...pdu, auth_events: (pdu.auth_events as JsonValue[]).slice(1) }),
  (pdu, random, room) => ({
    ...pdu,
    auth_events: [unknownReference(random, room), ...(pdu.auth_events as JsonValue[])],
  }),
  (pdu, random, room) => ({
    ...pdu,
    prev_events: [unknownReference(random, room), ...(pdu.prev_events as JsonValue[])],
  }),
  (pdu, random, room) => ({
    ...pdu,
    prev_events: [referenceTo(pick(random, [...room.events.keys()]), undefined, room.version) ?? 'odd'],
  }),
  (pdu) => ({ ...pdu, sender: 'nobody' }),
  (pdu) => ({ ...pdu, content: JSON.parse('{"__proto__":{"a":1},"constructor":2}') as JsonObject }),
  (pdu) => ({ ...pdu, content: { body: 'x', msgtype: 'm.text', extra: 9007199254740991 } }),
  (pdu) => ({ ...pdu, type: 'm.room.message', content: { msgtype: 'm.text', body: 5 } }),
  (pdu) => ({ ...pdu, type: 'constructor' }),
];

/** The same, of what hashes and signatures do not cover, or contradict. */
const LATE_CHANGES: readonly Change[] = [
  (pdu) => ({ ...pdu, unsigned: { age: 5, prev_content: {} } }),
  (pdu) => ({ ...pdu, hashes: { ...(pdu.hashes as JsonObject), md5: 'x' } }),
  (pdu) => ({ ...pdu, hashes: { sha256: 'AAAA' } }),
  (pdu) => ({ ...pdu, hashes: {} }),
  (pdu) => ({ ...pdu, hashes: 'none' }),
  (pdu) => ({ ...pdu, content: {} }),
  (pdu) => ({ ...pdu, signatures: {} }),
  (pdu) => ({ ...pdu, signatures: { 'a.example': {} } }),
  (pdu) => ({ ...pdu, signatures: 1 }),
  (pdu, random) => ({ ...pdu, signatures: { 'c.example': { [USUAL_KEY]: signature(random) } } }),
  (pdu, random) => ({ ...pdu, signatures: { 'a.example': { 'ed25519:old': signature(random) } } }),
  (pdu, random) => ({
    ...pdu,
    signatures: {
      'b.example': { [USUAL_KEY]: signature(random), 'ed25519:2': signature(random) },
      'a.example': { [USUAL_KEY]: signature(random) },
    },
  }),
  (pdu, random) => ({ ...pdu, signatures: { 'a.example': { [USUAL_KEY]: `${signature(random)}==` } } }),
  // What no event of the later versions may hold, and no canonical form has.
  (pdu) => ({ ...pdu, content: { level: 1.5, big: 2 ** 53, huge: 1e300, zero: -0 } }),
  (pdu) => ({ ...pdu, content: { body: 'half \ud83d', msgtype: 'm.text' } }),
  (pdu) => ({ ...pdu, depth: 2 ** 53 }),
  (pdu) => ({ ...pdu, depth: -1 }),
  (pdu) => ({ ...pdu, depth: 'deep' }),
  (pdu) => ({ ...pdu, state_key: 5 }),
  (pdu) => ({ ...pdu, content: [] }),
  (pdu) => ({ ...pdu, prev_events: [1, null] }),
  ({ hashes: _hashes, ...pdu }) => pdu,
  ({ room_id: _room, ...pdu }) => pdu,
  ({ origin_server_ts: _ts, ...pdu }) => pdu,
];

const strangeKey = (pdu: JsonObject): string => (Object.hasOwn(pdu, 'state_key') ? 'toString' : '__proto__x');

function unknownReference(random: Random, room: PduRoom): JsonValue {
  const id = room.version.id === '4' ? '$odd:id' : `$${base64(random.bytes(32))}`;
  return Number(room.version.id) <= 2 ? [id, { sha256: base64(random.bytes(32)) }] : id;
}

/** An event for the end of `room`: half of them ordinary, the others changed in one to three ways. */
export function randomPdu(room: PduRoom): JsonObject {
  const { random } = room;
  const ids = [...room.events.keys()];
  const prev = random.integer(4) === 0 ? [pick(random, ids)] : room.ends();
  let pdu = room.make(randomSaid(random), prev);
  if (random.integer(2) === 0) return pdu;
  if (random.integer(2) === 0) {
    for (let left = random.integer(3); left >= 0; left--)
      pdu = pick(random, HASHED_CHANGES)(pdu, random, room);
    const { hashes: _hashes, signatures: _signatures, ...bare } = pdu;
    pdu = room.finish(bare);
  }
  if (random.integer(2) === 0) pdu = pick(random, LATE_CHANGES)(pdu, random, room);
  return pdu;
}

/** Canonical JSON, or where an event has none, JSON with sorted keys: to compare by. */
export function textOf(pdu: JsonValue): string {
  const canonical = canonicalJson(pdu);
  if (canonical.ok) return canonical.value;
  return JSON.stringify(pdu, (_, value: JsonValue) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
}
