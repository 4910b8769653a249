import { gzipSync } from 'node:zlib';
import { base64, base64url, utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import { pack, packCompact } from '../../src/compact/container.ts';
import { decodeCompact, encodeCompact } from '../../src/compact/value.ts';
import { CompactWriter } from '../../src/compact/value_writer.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';

const NOW = 1_795_000_000_000;
const CONTEXT = { now: NOW, servers: ['a.example', 'b.example'] };
const random = seededRandom(1);
const hash = (): string => base64url(random.bytes(32));
const user = (n: number): string => `@user${n}:${n % 2 === 0 ? 'a' : 'b'}.example`;

const message = (n: number): JsonObject => ({
  type: 'm.room.message',
  sender: user(n),
  content: { msgtype: 'm.text', body: `Message number ${n}, on my way` },
  origin_server_ts: NOW + 1000 * n,
  unsigned: { age: 1000 + n },
  event_id: `$${hash()}`,
});
const member = (n: number): JsonObject => ({
  type: 'm.room.member',
  state_key: user(n),
  sender: user(n),
  content: {
    membership: 'join',
    displayname: `User ${n}`,
    avatar_url: `mxc://a.example/${base64url(random.bytes(18))}`,
  },
  origin_server_ts: NOW - 1000 * n,
  event_id: `$${hash()}`,
});
const range = (count: number): number[] => [...new Array(count).keys()];
const room = (): [string, JsonValue] => [
  `!${hash()}`,
  {
    timeline: {
      events: range(10).map(message),
      limited: true,
      prev_batch: `h1_${random.integer(100)}_${random.integer(1000)}`,
    },
    state: { events: range(10).map(member) },
    ephemeral: { events: [{ type: 'm.typing', content: { user_ids: [] } }] },
    account_data: { events: [] },
    summary: { 'm.joined_member_count': 10, 'm.invited_member_count': 0 },
    unread_notifications: { highlight_count: 0, notification_count: 10 },
  },
];
const pdu: JsonObject = {
  auth_events: [`$${hash()}`, `$${hash()}`],
  content: { body: 'Hello World', msgtype: 'm.text' },
  depth: 17,
  hashes: { sha256: base64(random.bytes(32)) },
  origin_server_ts: NOW,
  prev_events: [`$${hash()}`],
  room_id: `!${hash()}`,
  sender: user(1),
  signatures: { 'b.example': { 'ed25519:a1': base64(random.bytes(64)) } },
  type: 'm.room.message',
};

/** What the messages of Matrix look like. */
const VALUES: readonly (readonly [name: string, value: JsonValue])[] = [
  ['content of a message', { msgtype: 'm.text', body: 'Hello World' }],
  ['event as a client gets it', message(3)],
  ['transaction with one PDU', { origin: 'b.example', origin_server_ts: NOW + 5, pdus: [pdu], edus: [] }],
  [
    'first sync, 10 rooms of 10 members',
    { next_batch: 's1_4711', rooms: { join: Object.fromEntries(range(10).map(room)) } },
  ],
];

export interface ValueRow {
  readonly name: string;
  readonly bytes: Readonly<
    Record<'json' | 'gzip' | 'cbor' | 'packedCbor' | 'compact' | 'packedCompact', number>
  >;
  /** Microseconds a value, there and back. */
  readonly microseconds: Readonly<Record<'json' | 'cbor' | 'compact', number>>;
}

/** Sizes and times of compact values beside CBOR and JSON; `time` measures the milliseconds that something takes. */
export function compareValues(time: (work: () => void) => number): readonly ValueRow[] {
  return VALUES.map(([name, value]) => {
    const text = JSON.stringify(value);
    const cbor = encodeJson(value);
    const written = new CompactWriter(CONTEXT);
    written.value(value);
    const compact = written.done();
    const bytes = {
      json: utf8(text).length,
      gzip: gzipSync(text, { level: 9 }).length,
      cbor: cbor.length,
      packedCbor: pack(cbor).length,
      compact: compact.length,
      packedCompact: packCompact(written.content(), { kind: 'static' }).length,
    };
    const passes = Math.max(20, Math.round(2_000_000 / text.length));
    const measured = (work: () => unknown): number => {
      for (let n = 0; n < passes / 4; n++) work();
      return (
        (1000 *
          time(() => {
            for (let n = 0; n < passes; n++) work();
          })) /
        passes
      );
    };
    const microseconds = {
      json: measured(() => JSON.parse(JSON.stringify(value))),
      cbor: measured(() => decodeJson(encodeJson(value))),
      compact: measured(() => decodeCompact(encodeCompact(value, CONTEXT), CONTEXT)),
    };
    return { name, bytes, microseconds };
  });
}

export function valueTable(rows: readonly ValueRow[]): string {
  const columns = ['json', 'gzip', 'cbor', 'packedCbor', 'compact', 'packedCompact'] as const;
  const cell = (text: string | number): string => String(text).padStart(9);
  const head = [
    'bytes of a value'.padEnd(36),
    ...['JSON', 'gzip', 'CBOR', '+ Flate', 'compact', '+ Flate', 'µs: JSON', 'CBOR', 'compact'].map(cell),
  ];
  const lines = rows.map(({ name, bytes, microseconds: { json, cbor, compact } }) =>
    [
      name.padEnd(36),
      ...columns.map((column) => cell(bytes[column])),
      ...[json, cbor, compact].map((us) => cell(us.toFixed(1))),
    ].join(' '),
  );
  return [head.join(' '), ...lines].join('\n');
}
