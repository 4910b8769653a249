import { generate, type Packet, parse } from 'coap-packet';
import { systemClock } from '../../src/base/time.ts';
import { decode, encode, type Message, NO_BYTES } from '../../src/coap/message.ts';
import { OPTION, type Option, stringOption, uintOption } from '../../src/coap/options.ts';
import { compareValues, valueTable } from './codec_values.ts';

/** How many times faster than coap-packet each direction, and the mix of both, has to be. */
const BUDGET = 2;
/** Odd, for the median. */
const ROUNDS = 41;
const PASSES_A_ROUND = 4_000;
const WARM_UP_ROUNDS = 5;

const TOKEN = Uint8Array.of(0x5e, 0x1c, 0x90, 0x07);
const PATH = ['_matrix', 'client', 'v3', 'rooms', 'messages'].map((one) => stringOption(OPTION.uriPath, one));
const CBOR = uintOption(OPTION.contentFormat, 60);

const CORPUS: readonly (readonly [name: string, message: Message])[] = [
  [
    'GET, five path segments and a query',
    of('CON', 0x01, [...PATH, stringOption(OPTION.uriQuery, 'limit=10')]),
  ],
  ['PUT, 60 bytes', of('CON', 0x03, [...PATH.slice(0, 3), CBOR], 60)],
  ['ACK 2.04', of('ACK', 0x44, [])],
  [
    'ACK 2.05, a block of 1,024 bytes',
    of(
      'ACK',
      0x45,
      [{ number: OPTION.eTag, value: new Uint8Array(8) }, CBOR, uintOption(OPTION.block2, 0x1e)],
      1024,
    ),
  ],
  [
    'notification, 80 bytes',
    of('CON', 0x45, [uintOption(OPTION.observe, 0x1234), CBOR, uintOption(OPTION.maxAge, 60)], 80),
  ],
  ['empty ACK', { ...of('ACK', 0x00, []), token: NO_BYTES }],
];

function of(type: Message['type'], code: number, options: readonly Option[], payloadBytes = 0): Message {
  return { type, code, id: 0x7d34, token: TOKEN, options, payload: new Uint8Array(payloadBytes).fill(0x61) };
}

interface Candidate {
  readonly encode: () => number;
  readonly decode: () => number;
  /** Decodes, and looks at each option's number and value. */
  readonly read: () => number;
}

/** Each returns something that depends on the work, so that none of it can be left out. */
function ours(message: Message, wire: Uint8Array): Candidate {
  const message_ = (): Message => {
    const result = decode(wire);
    if (!result.ok) throw new Error(result.problem.reason);
    return result.value;
  };
  return {
    encode: () => encode(message).length,
    decode: () => message_().id,
    read: () => message_().options.reduce((sum, { number, value }) => sum + number + value.length, 0),
  };
}

function theirs(message: Message, wire: Buffer): Candidate {
  const packet: Packet = {
    code: `${message.code >> 5}.${String(message.code & 31).padStart(2, '0')}`,
    confirmable: message.type === 'CON',
    ack: message.type === 'ACK',
    reset: message.type === 'RST',
    messageId: message.id,
    token: Buffer.from(message.token),
    options: message.options.map(({ number, value }) => ({ name: number, value: Buffer.from(value) })),
    payload: Buffer.from(message.payload),
  };
  return {
    encode: () => generate(packet).length,
    decode: () => parse(wire).messageId,
    read: () =>
      parse(wire).options.reduce((sum, { name, value }) => sum + String(name).length + value.length, 0),
  };
}

type Work = keyof Candidate;
const WORKS: readonly Work[] = ['encode', 'decode', 'read'];

interface Row {
  readonly name: string;
  /** Nanoseconds a message. */
  readonly ours: number;
  readonly theirs: number;
  readonly ratio: number;
}

/**
 * Times both codecs in turns, so that whatever else the machine does meets both, and takes the median of the rounds'
 * ratios.
 */
function compare(name: string, pairs: readonly (readonly [() => number, () => number])[]): Row {
  const rounds: Row[] = [];
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    const mine = nanoseconds(pairs.map(([a]) => a));
    const other = nanoseconds(pairs.map(([, b]) => b));
    if (round >= 0) rounds.push({ name, ours: mine, theirs: other, ratio: other / mine });
  }
  return rounds.sort((a, b) => a.ratio - b.ratio)[(ROUNDS - 1) / 2]!;
}

let sink = 0;

function nanoseconds(works: readonly (() => number)[]): number {
  const start = systemClock.monotonic();
  for (let pass = 0; pass < PASSES_A_ROUND; pass++) for (const work of works) sink += work();
  return ((systemClock.monotonic() - start) * 1e6) / (PASSES_A_ROUND * works.length);
}

function milliseconds(work: () => void): number {
  const start = systemClock.monotonic();
  work();
  return systemClock.monotonic() - start;
}

/**
 * Messages encoded and decoded a second, beside coap-packet (what node-coap uses); and what compact values take, beside JSON.
 * @returns whether each direction and the mix of both keep the budget
 */
export async function run({ json }: { readonly json: boolean }): Promise<boolean> {
  const candidates = CORPUS.map(([name, message]) => {
    // A datagram from a socket has memory of its own, as here; Buffer.from would take it out of a pool.
    const wire = Buffer.from(encode(message).slice().buffer);
    return { name, ours: ours(message, wire), theirs: theirs(message, wire) };
  });
  const all = (works: readonly Work[]) =>
    works.flatMap((work) => candidates.map((one) => [one.ours[work], one.theirs[work]] as const));
  const judged = [
    compare('encode', all(['encode'])),
    compare('decode', all(['decode'])),
    compare('encode and decode', all(['encode', 'decode'])),
  ];
  const told = [
    compare('decode, and read every option', all(['read'])),
    ...WORKS.slice(0, 2).flatMap((work) =>
      candidates.map((one) => compare(`${work} ${one.name}`, [[one.ours[work], one.theirs[work]]])),
    ),
  ];
  const values = compareValues(milliseconds);
  const kept = judged.every(({ ratio }) => ratio >= BUDGET);
  if (json) process.stdout.write(`${JSON.stringify({ budget: BUDGET, kept, judged, told, values, sink })}\n`);
  else process.stdout.write(`${table([...judged, ...told])}\n${verdict(kept)}\n\n${valueTable(values)}\n`);
  return kept;
}

const verdict = (kept: boolean): string =>
  kept
    ? `The first three are at least ${BUDGET} times as fast.`
    : `Too slow: the first three have to be ${BUDGET} times as fast.`;

function table(rows: readonly Row[]): string {
  const perSecond = (ns: number): string => Math.round(1e9 / ns).toLocaleString('en');
  const lines = rows.map((row) =>
    [
      row.name.padEnd(44),
      perSecond(row.ours).padStart(12),
      perSecond(row.theirs).padStart(12),
      row.ratio.toFixed(2).padStart(7),
    ].join(' '),
  );
  const head = [
    'messages a second'.padEnd(44),
    'ours'.padStart(12),
    'coap-packet'.padStart(12),
    'ratio'.padStart(7),
  ];
  return [head.join(' '), ...lines].join('\n');
}
