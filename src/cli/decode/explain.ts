import { hex } from '../../base/bytes.ts';
import { EMPTY } from '../../coap/codes.ts';
import { decode, type Message, type MessageProblem } from '../../coap/message.ts';
import { firstUint, OPTION, type Option } from '../../coap/options.ts';
import { TAG_BYTES } from '../../crypto/aead.ts';
import { X25519_BYTES } from '../../crypto/x25519.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD } from '../../link/link.ts';
import { connectionIdLength, decodeRecord, type PipeRecord } from '../../pipe/record.ts';
import { codeText, describeDatagram, isRecord, labelOf, optionText, renderPayload } from '../coap/render.ts';

/** One thing in a datagram, and how many bytes it takes. */
export interface Part {
  readonly name: string;
  readonly value: string;
  readonly bytes: number;
}

/** The parts of one protocol. */
export interface Layer {
  readonly name: string;
  readonly bytes: number;
  readonly parts: readonly Part[];
}

export interface Explained {
  /** In one line. */
  readonly what: string;
  /** From the outside in. Their bytes add up to what the datagram takes on the wire. */
  readonly layers: readonly Layer[];
}

/** RFC 7252, section 3. */
const HEADER_BYTES = 4;
const FIRST_PLAIN_BYTE = 0x40;
/** The longest value that is shown whole. */
const LONGEST_HEX_BYTES = 32;

const PROBLEMS: Readonly<Record<MessageProblem['reason'], string>> = {
  short: 'it is shorter than a header',
  version: 'its version is not 1',
  token: 'its token is not whole',
  empty: 'an empty message has something behind its header',
  option: 'an option is not whole',
  payload: 'there is nothing behind the payload marker',
};

/**
 * Explains a datagram layer by layer. What is sealed is shown by its length only. Any bytes may be given.
 * @param lowerBytes what is around it on the wire
 */
export function explain(datagram: Uint8Array, lowerBytes: number = ETHERNET_IPV4_UDP_OVERHEAD): Explained {
  const lower: Layer = { name: 'Ethernet, IP, UDP', bytes: lowerBytes, parts: [] };
  if (isRecord(datagram)) {
    const record = decodeRecord(datagram);
    if (!record.ok)
      return unknown(lower, datagram, `a record of a pipe: ${record.problem.replace('_', ' ')}`);
    return {
      what: `pipe ${record.value.kind}, ${datagram.length} B`,
      layers: [lower, layer('record', recordParts(record.value, datagram))],
    };
  }
  const message = decode(datagram);
  if (message.ok)
    return { what: describeDatagram(datagram), layers: [lower, ...messageLayers(message.value)] };
  const isOurs = (datagram[0] ?? 0) >= FIRST_PLAIN_BYTE;
  const why = isOurs ? `no CoAP message: ${PROBLEMS[message.problem.reason]}` : 'neither CoAP nor a pipe';
  return unknown(lower, datagram, why);
}

const unknown = (lower: Layer, datagram: Uint8Array, what: string): Explained => ({
  what,
  layers: [lower, layer('unknown', [{ name: 'bytes', value: short(datagram), bytes: datagram.length }])],
});

const layer = (name: string, parts: readonly Part[]): Layer => ({
  name,
  bytes: parts.reduce((sum, { bytes }) => sum + bytes, 0),
  parts: parts.filter(({ bytes }) => bytes > 0),
});

const short = (bytes: Uint8Array): string =>
  bytes.length <= LONGEST_HEX_BYTES ? hex(bytes) : `${hex(bytes.subarray(0, LONGEST_HEX_BYTES))}...`;

function messageLayers(message: Message): Layer[] {
  const { type, code, id, token, options, payload } = message;
  const lengthBytes = token.length < 13 ? 0 : token.length < 269 ? 1 : 2;
  const header: Part[] = [
    { name: 'version, type', value: `1, ${type}`, bytes: 1 },
    { name: 'code', value: code === EMPTY ? '0.00 Empty' : codeText(code), bytes: 1 },
    { name: 'message id', value: String(id), bytes: HEADER_BYTES - 2 },
    { name: 'token', value: hex(token), bytes: token.length + lengthBytes },
  ];
  const layers = [layer('CoAP header', header)];
  if (options.length > 0) layers.push(layer('CoAP options', optionParts(options)));
  if (payload.length > 0) {
    const { text } = renderPayload(payload, firstUint(options, OPTION.contentFormat), false);
    const parts = [
      { name: 'marker', value: 'ff', bytes: 1 },
      { name: 'content', value: text, bytes: payload.length },
    ];
    layers.push(layer('payload', parts));
  }
  return layers;
}

/** RFC 7252, section 3.1: a byte for both, one or two more for a long difference of numbers, and for a long value. */
function optionParts(options: readonly Option[]): Part[] {
  let before = 0;
  return options.map((option) => {
    const { number, value } = option;
    const bytes = 1 + extension(number - before) + extension(value.length) + value.length;
    before = number;
    return { name: labelOf(number), value: optionText(option), bytes };
  });
}

const extension = (value: number): number => (value < 13 ? 0 : value < 269 ? 1 : 2);

function recordParts(record: PipeRecord, datagram: Uint8Array): Part[] {
  const first: Part = { name: 'kind, flags', value: firstByteText(record, datagram[0]!), bytes: 1 };
  switch (record.kind) {
    case 'XX1':
    case 'IK1': {
      const { version, refused, source, cookie, message } = record;
      return [
        first,
        { name: 'version', value: `${version >> 4}, suite ${version & 15}`, bytes: 1 },
        { name: 'refused versions', value: hex(Uint8Array.from(refused)), bytes: refused.length },
        connectionPart('source', source),
        { name: 'cookie', value: hex(cookie ?? new Uint8Array(0)), bytes: cookie?.length ?? 0 },
        ...noiseParts(record.kind, message),
      ];
    }
    case 'XX2':
    case 'XX3':
    case 'IK2':
      return [
        first,
        connectionPart('destination', record.destination),
        ...noiseParts(record.kind, record.message),
      ];
    case 'data':
    case 'control': {
      const { destination, clear, sealed } = record;
      const { truncated, numberLength, salt } = clear;
      return [
        first,
        connectionPart('destination', destination),
        { name: 'salt', value: hex(salt ?? new Uint8Array(0)), bytes: salt?.length ?? 0 },
        { name: 'number', value: `...${hexNumber(truncated, numberLength)}`, bytes: numberLength },
        { name: 'sealed', value: 'with a key that is not known here', bytes: sealed.length - TAG_BYTES },
        { name: 'tag', value: short(sealed.subarray(sealed.length - TAG_BYTES)), bytes: TAG_BYTES },
      ];
    }
    case 'hint':
      return [
        first,
        connectionPart('destination', record.destination),
        {
          name: 'number',
          value: `...${hexNumber(record.truncated, record.numberLength)}`,
          bytes: record.numberLength,
        },
        restPart(datagram, 1 + connectionIdLength(record.destination) + record.numberLength),
      ];
    case 'cookie':
    case 'versions': {
      const at = 1 + connectionIdLength(record.destination);
      const content = record.kind === 'cookie' ? record.cookie : Uint8Array.from(record.versions);
      return [
        first,
        connectionPart('destination', record.destination),
        { name: record.kind, value: hex(content), bytes: content.length },
        restPart(datagram, at + content.length),
      ];
    }
  }
}

const connectionPart = (name: string, id: Parameters<typeof connectionIdLength>[0]): Part => ({
  name: `${name} connection`,
  value: hexNumber(id, connectionIdLength(id)),
  bytes: connectionIdLength(id),
});

const restPart = (datagram: Uint8Array, at: number): Part => ({
  name: 'ignored',
  value: short(datagram.subarray(at)),
  bytes: Math.max(0, datagram.length - at),
});

const hexNumber = (value: number, bytes: number): string => value.toString(16).padStart(2 * bytes, '0');

function firstByteText(record: PipeRecord, first: number): string {
  const { kind } = record;
  if (kind === 'data' || kind === 'control') {
    const { phase, isResend, salt } = record.clear;
    return [kind, `phase ${phase}`, ...(isResend ? ['resend'] : []), ...(salt ? ['salted'] : [])].join(', ');
  }
  return `${kind}, ${first.toString(16)}`;
}

/** What Noise's messages begin with: keys in clear (e) and sealed with a tag (s). The rest is the payload. */
const NOISE_KEYS = {
  XX1: ['ephemeral key'],
  XX2: ['ephemeral key', 'static key, sealed'],
  XX3: ['static key, sealed'],
  IK1: ['ephemeral key', 'static key, sealed'],
  IK2: ['ephemeral key'],
} as const;

/** Of a pipe that is encrypted and open to all. XX1's payload is readable. */
function noiseParts(kind: keyof typeof NOISE_KEYS, message: Uint8Array): Part[] {
  const parts: Part[] = [];
  let at = 0;
  const take = (name: string, length: number, value?: string): void => {
    const bytes = message.subarray(at, at + length);
    parts.push({ name, value: value ?? short(bytes), bytes: bytes.length });
    at += bytes.length;
  };
  for (const name of NOISE_KEYS[kind])
    take(name, name.endsWith('sealed') ? X25519_BYTES + TAG_BYTES : X25519_BYTES);
  if (kind === 'XX1') take('payload and padding, readable', message.length - at);
  else {
    take('payload, sealed', Math.max(0, message.length - at - TAG_BYTES), 'with the keys of the handshake');
    take('tag', TAG_BYTES);
  }
  return parts;
}
