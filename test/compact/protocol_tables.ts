import { readFileSync, writeFileSync } from 'node:fs';
import { hex } from '../../src/base/bytes.ts';
import { packCompact } from '../../src/compact/container.ts';
import type { CompactContext, MessageHandles } from '../../src/compact/context.ts';
import type { HandleKind } from '../../src/compact/forms.ts';
import { OPERATIONS } from '../../src/compact/route_table.ts';
import { QUERY_KEYS, ROUTES, VERSIONS } from '../../src/compact/routes.ts';
import { encodeTarget } from '../../src/compact/target.ts';
import { encodeCompact } from '../../src/compact/value.ts';
import { KEY_OF_CODE, PREFIXES, TEXT_OF_SIMPLE } from '../../src/compact/vocabulary.ts';
import { encodeCompactParts } from '../../src/exchange/compact_payload.ts';
import type { JsonValue } from '../../src/matrix/json.ts';

/*
 * Makes a section of docs/protocol.md, the tables of the compact form and examples: what is released stays as it is.
 * `node test/compact/protocol_tables.ts` writes it, the test of the document compares.
 */

const DOCUMENT = new URL('../../docs/protocol.md', import.meta.url);
const HEADING = '## Tables of the compact form\n\n';
const NEXT_HEADING = '## Examples\n';

const COLUMNS = 100;
const NOW = 1_795_000_000_000;

/** Lists that a reader counts through: "from n on", then the words. */
export function tables(): string {
  const codes = [...KEY_OF_CODE.keys()].toSorted((a, b) => a - b);
  const short = codes.filter((code) => code <= 0).toReversed();
  const simple = [...TEXT_OF_SIMPLE.keys()];
  return [
    '### Keys',
    '',
    ...list(
      '0, -1, -2 and so on',
      short.map((code) => KEY_OF_CODE.get(code)!),
    ),
    ...list(
      '1 and so on; 1 to 104 are those of MSC3079',
      codes.filter((code) => code > 0).map((code) => KEY_OF_CODE.get(code)!),
    ),
    '### Texts',
    '',
    ...list(
      'simple values 0 to 19',
      simple.filter((n) => n < 20).map((n) => TEXT_OF_SIMPLE.get(n)!),
    ),
    ...list(
      'simple values 32 and so on',
      simple.filter((n) => n >= 32).map((n) => TEXT_OF_SIMPLE.get(n)!),
    ),
    ...list('prefixes 0 and so on', PREFIXES),
    '### Routes',
    '',
    `Numbers 0 to ${ROUTES.length - 1}, in this order; a line with several methods has as many numbers.`,
    '',
    '```',
    ...OPERATIONS.flatMap(([base, operations]) => [
      base,
      ...operations
        .trim()
        .split('\n')
        .map((line) => `  ${line.trim()}`),
    ]),
    '```',
    '',
    ...list(
      'keys of queries, 0 and so on, with the kind of what follows where it is not a text',
      [...QUERY_KEYS].map(([key, { kind }]) => (kind === 'text' ? key : `${key}(${kind})`)),
    ),
    ...list('versions, 0 and so on', VERSIONS),
    '### Examples of values and targets',
    '',
    '| | |',
    '| --- | --- |',
    ...EXAMPLES.map(([told, bytes]) => `| \`${told}\` | \`${hex(bytes)}\` |`),
    '',
    '### Examples of containers',
    '',
    'Requests in the compact form, where no server names are expected: as they are, deflated, and with their blobs in front. Whoever',
    'deflates otherwise gets other bytes, which are read all the same.',
    '',
    '| | |',
    '| --- | --- |',
    ...CONTAINERS.map(([told, bytes]) => `| \`${told}\` | \`${hex(bytes)}\` |`),
    '',
    '### Examples with names',
    '',
    'Targets and values of requests of a.example to b.example, in a session in which all those above them were answered with 200. The room',
    'has got slot 5, the users slots 0 and 1.',
    '',
    '| | |',
    '| --- | --- |',
    ...NAMED.map(([told, bytes]) => `| \`${told}\` | \`${hex(bytes)}\` |`),
    '',
    '',
  ].join('\n');
}

const HASH = 'A'.repeat(43);
const VALUES: readonly JsonValue[] = [
  { msgtype: 'm.text', body: 'Hello' },
  { body: 'Hello', msgtype: 'm.text' },
  {
    type: 'm.room.member',
    state_key: '@al:a.example',
    content: { membership: 'join' },
    origin_server_ts: NOW + 250,
  },
  { room_id: '!a:b.example', event_id: `$${HASH}` },
  ['@al:a.example', '@al:c.example', '@bo:c.example', '@al:c.example'],
  { 'ed25519:a1': HASH, next_batch: 's1_300', n: '12345' },
  [1.5, -1, '\ud800', 'm1795000000004.7'],
];
const TARGETS: readonly (readonly [method: string, path: string, query: string])[] = [
  ['PUT', '/_matrix/client/v3/rooms/!a%3Ab.example/send/m.room.message/7', ''],
  ['PUT', '/_matrix/client/r0/rooms/!a:b.example/send/m.room.message/7', ''],
  ['GET', '/_matrix/client/v3/sync', 'since=s1_300&timeout=30000'],
  ['GET', '/x', 'a&b=%2f'],
];
const EXAMPLES: readonly (readonly [string, Uint8Array])[] = [
  ...VALUES.map((value) => [JSON.stringify(value), encodeCompact(value)] as const),
  ...TARGETS.map(
    ([method, path, query]) =>
      [`${method} ${path}${query === '' ? '' : `?${query}`}`, encodeTarget({ method, path, query })] as const,
  ),
];

const SEND = '/_matrix/client/v3/rooms/!a%3Ab.example/send/m.room.message/7';
const EVENT = `/_matrix/client/v3/rooms/!a%3Ab.example/event/%24${'B'.repeat(43)}`;
const LONG = 'Hello, hello, hello, hello, hello';
const CONTAINERS: readonly (readonly [string, Uint8Array])[] = (
  [
    ['nothing', SEND, { msgtype: 'm.text', body: 'Hello' }],
    ['static', SEND, { msgtype: 'm.text', body: LONG }],
    ['static', EVENT, { event_id: `$${HASH}`, body: LONG }],
  ] as const
).map(([kind, path, value]) => {
  const target = { method: 'PUT', path, query: '' };
  const content = encodeCompactParts({}, target, { kind: 'json', value });
  return [`PUT ${path} ${JSON.stringify(value)}`, packCompact(content, { kind })];
});

/** Names as their writer has them. */
const KNOWN = new Map<string, number>();
const FIRST_SLOTS: Readonly<Partial<Record<HandleKind, number>>> = { room: 5, user: 0 };
const handles: MessageHandles = {
  write(kind, text) {
    const first = FIRST_SLOTS[kind];
    if (first === undefined) return undefined;
    const known = KNOWN.get(text);
    if (known !== undefined) return { kind: 'known', slot: known };
    const slot = first + [...KNOWN.keys()].filter((one) => one[0] === text[0]).length;
    KNOWN.set(text, slot);
    return { kind: 'introduce', slot };
  },
  read: () => ({ kind: 'unknown handle' }),
  introduce: () => false,
};
const NAMES: CompactContext = { servers: ['a.example', 'b.example'], handles };
const NAMED: readonly (readonly [string, Uint8Array])[] = [
  ...[SEND, SEND, SEND.replace(/7$/, '~')].map(
    (path) => [`PUT ${path}`, encodeTarget({ method: 'PUT', path, query: '' }, NAMES)] as const,
  ),
  ...['["@al:a.example","@al:c.example"]', '["@al:c.example"]'].map(
    (value) => [value, encodeCompact(JSON.parse(value) as JsonValue, NAMES)] as const,
  ),
];

function list(title: string, words: readonly string[]): string[] {
  const lines = [''];
  for (const word of words) {
    const longer = lines.at(-1) === '' ? word : `${lines.at(-1)} ${word}`;
    if (longer.length > COLUMNS) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return [`${title[0]!.toUpperCase()}${title.slice(1)}:`, '', '```', ...lines, '```', ''];
}

function parts(): readonly [before: string, section: string, after: string] {
  const text = readFileSync(DOCUMENT, 'utf8');
  const start = text.indexOf(HEADING) + HEADING.length;
  const end = text.indexOf(NEXT_HEADING, start);
  return [text.slice(0, start), text.slice(start, end), text.slice(end)];
}

/** The section as it stands in the document. */
export const documented = (): string => parts()[1];

if (import.meta.main) {
  const [before, , after] = parts();
  writeFileSync(DOCUMENT, before + tables() + after);
}
