import { fromUtf8, hex } from '../../base/bytes.ts';
import { TAG_BYTES } from '../../crypto/aead.ts';
import { X25519_BYTES } from '../../crypto/x25519.ts';
import { BOOT_ID_BYTES, decodeConfirmed } from '../../pipe/handshake_payload.ts';
import { CHECK_BYTES, SERIAL_BYTES } from '../../pipe/identity.ts';
import { connectionIdLength, decodeConnectionId } from '../../pipe/record.ts';
import { decodeVarint } from '../../pipe/varint.ts';
import { Cutter, type Part } from './parts.ts';

/** What Noise's messages begin with: keys in clear (e) and sealed with a tag (s). The rest is the payload. */
const NOISE_KEYS = {
  XX1: ['ephemeral key'],
  XX2: ['ephemeral key', 'static key, sealed'],
  XX3: ['static key, sealed'],
  IK1: ['ephemeral key', 'static key, sealed'],
  IK2: ['ephemeral key'],
} as const;

type HandshakeKind = keyof typeof NOISE_KEYS;

// docs/protocol.md, "Handshake payloads" and "Negotiation".
const SIGNING_KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
const DEVICE_MARK = 0xff;
const NAME_LEFT_OUT = 0x80;
const TELLS = 0x02;
const EARLY = 0x20;
const FEATURES = [
  'is opening too',
  'negotiates',
  'compact headers',
  'device',
  'early data',
  'early data here',
  'compact form and its models',
  'deferred signatures',
];
const PARAMETERS: Readonly<Record<number, string>> = {
  1: 'longest datagram',
  2: 'bits a second',
  3: 'open requests',
  4: 'dictionaries and models',
};
const NO_PROPOSAL = { generation: 0, capabilities: new Uint8Array(0) };

/** Explains early data, which is a message with a compact header. */
type ExplainEarly = (message: Uint8Array) => readonly Part[];

/** A handshake message of a pipe that is encrypted and open to all. XX1's payload is readable. */
export function noiseParts(
  kind: HandshakeKind,
  message: Uint8Array,
  payload: Uint8Array | undefined,
  explainEarly: ExplainEarly,
): readonly Part[] {
  const cutter = new Cutter(message);
  for (const name of NOISE_KEYS[kind])
    cutter.cut(name, name.endsWith('sealed') ? X25519_BYTES + TAG_BYTES : X25519_BYTES);
  if (kind === 'XX1' && payload?.length !== cutter.left - TAG_BYTES)
    return [
      ...cutter.parts,
      ...payloadParts(kind, message.subarray(message.length - cutter.left), explainEarly),
    ];
  const sealed = Math.max(0, cutter.left - TAG_BYTES);
  if (payload === undefined || payload.length !== sealed) {
    cutter.cut('payload, sealed', sealed, () => 'with the keys of the handshake');
    cutter.rest('tag');
    return cutter.parts;
  }
  const opened = payloadParts(kind, payload, explainEarly);
  const tag = new Cutter(message.subarray(message.length - TAG_BYTES));
  tag.rest('tag');
  return [...cutter.parts, ...opened, ...tag.parts];
}

function payloadParts(kind: HandshakeKind, payload: Uint8Array, explainEarly: ExplainEarly): readonly Part[] {
  const cutter = new Cutter(payload);
  switch (kind) {
    case 'XX1':
      if (((cutter.next ?? 0) & TELLS) !== 0) {
        cutter.cut('features', 1, featuresText);
        cutter.cut('generation', SERIAL_BYTES, numberText);
        parameters(cutter);
      }
      break;
    case 'XX2':
      connection(cutter);
      cutter.cut('boot id', BOOT_ID_BYTES);
      identity(cutter, ((cutter.next ?? 0) & NAME_LEFT_OUT) !== 0 ? 'called' : 'within');
      features(cutter);
      break;
    case 'XX3':
      // Without the generation where XX1 has told it, and then nothing is behind the name.
      if (decodeConfirmed(payload, NO_PROPOSAL).ok) {
        cutter.cut('boot id', BOOT_ID_BYTES);
        identity(cutter, 'last');
        break;
      }
      cutter.cut('generation', SERIAL_BYTES, numberText);
      cutter.cut('boot id', BOOT_ID_BYTES);
      identity(cutter, 'within');
      features(cutter);
      break;
    case 'IK1':
      cutter.cut('generation', SERIAL_BYTES, numberText);
      cutter.cut('check', CHECK_BYTES);
      cutter.cut('boot id', BOOT_ID_BYTES);
      return [...cutter.parts, ...endOfIk1(payload.subarray(payload.length - cutter.left), explainEarly)];
    case 'IK2':
      connection(cutter);
      cutter.cut('boot id', BOOT_ID_BYTES);
      features(cutter);
      break;
  }
  cutter.rest('padding, or of later versions');
  return cutter.parts;
}

function endOfIk1(bytes: Uint8Array, explainEarly: ExplainEarly): readonly Part[] {
  const cutter = new Cutter(bytes);
  const first = cutter.next ?? 0;
  if ((first & EARLY) === 0 || (first & TELLS) !== 0) {
    features(cutter);
    cutter.rest('padding, or of later versions');
    return cutter.parts;
  }
  cutter.cut('features', 1, featuresText);
  const length = decodeVarint(bytes, 1, bytes.length);
  if (length === undefined || length.end + length.value > bytes.length) {
    cutter.rest('early data, cut off');
    return cutter.parts;
  }
  cutter.cut('length of the early data', length.end - 1, () => String(length.value));
  const early = bytes.subarray(length.end, length.end + length.value);
  const rest = new Cutter(bytes.subarray(length.end + length.value));
  rest.rest('padding, or of later versions');
  const inside = explainEarly(early);
  return [
    ...cutter.parts,
    { name: 'early data', value: 'a message', bytes: early.length, inside, insideBytes: early.length },
    ...rest.parts,
  ];
}

function connection(cutter: Cutter): void {
  const id = decodeConnectionId(Uint8Array.of(cutter.next ?? 0, 0, 0, 0), 0);
  cutter.cut("responder's connection", id === undefined ? 1 : connectionIdLength(id));
}

function identity(cutter: Cutter, name: 'within' | 'called' | 'last'): void {
  if (cutter.next === DEVICE_MARK) {
    cutter.cut('identity', 1, () => 'a device');
    return;
  }
  cutter.cut('serial', SERIAL_BYTES, serialText);
  cutter.cut('signing key', SIGNING_KEY_BYTES);
  cutter.cut('binding', SIGNATURE_BYTES);
  text(cutter, 'key version');
  if (name === 'within') text(cutter, 'server name');
  if (name === 'last') cutter.rest('server name', (bytes) => fromUtf8(bytes) ?? hex(bytes));
}

function text(cutter: Cutter, name: string): void {
  const [length = 0] = cutter.cut(`length of the ${name}`, 1, ([value = 0]) => String(value));
  cutter.cut(name, length, (bytes) => fromUtf8(bytes) ?? hex(bytes));
}

function features(cutter: Cutter): void {
  const [byte = 0] = cutter.cut('features', 1, featuresText);
  if ((byte & TELLS) !== 0) parameters(cutter);
}

function parameters(cutter: Cutter): void {
  while ((cutter.next ?? 0) !== 0) {
    const [type = 0] = cutter.cut('parameter', 1, ([value = 0]) => PARAMETERS[value] ?? String(value));
    const [length = 0] = cutter.cut('its length', 1, ([value = 0]) => String(value));
    cutter.cut('its value', length, (bytes) => (type === 4 ? [...bytes].join(', ') : numberText(bytes)));
  }
}

const featuresText = ([byte = 0]: Uint8Array): string =>
  FEATURES.filter((_, bit) => (byte & (1 << bit)) !== 0).join(', ') || 'none';

/** Without the mark of a name that is left out. */
const serialText = (bytes: Uint8Array): string => `${BigInt.asUintN(47, BigInt(`0x${hex(bytes) || '0'}`))}`;

const numberText = (bytes: Uint8Array): string => BigInt(`0x${hex(bytes) || '0'}`).toString();
