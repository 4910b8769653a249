import { hex } from '../../base/bytes.ts';
import { decode, type MessageProblem, NO_BYTES } from '../../coap/message.ts';
import { TAG_BYTES } from '../../crypto/aead.ts';
import type { LearningModel } from '../../exchange/learnt.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD } from '../../link/link.ts';
import { connectionIdLength, decodeRecord, type PipeRecord, type TransportKind } from '../../pipe/record.ts';
import { describeDatagram, isRecord } from '../coap/render.ts';
import { ReadKeyLog } from '../key_log.ts';
import { messageLayers } from './coap_parts.ts';
import { Dialogues, type Direction } from './dialogues.ts';
import { noiseParts } from './handshake_parts.ts';
import { type Explained, type Layer, layer, type Part, short, sizeOf } from './parts.ts';
import { controlParts, dataLayers, earlyParts, openRecord } from './sealed_parts.ts';

const FIRST_PLAIN_BYTE = 0x40;

const PROBLEMS: Readonly<Record<MessageProblem['reason'], string>> = {
  short: 'it is shorter than a header',
  version: 'its version is not 1',
  token: 'its token is not whole',
  empty: 'an empty message has something behind its header',
  option: 'an option is not whole',
  payload: 'there is nothing behind the payload marker',
};

/** Explains the datagrams of a capture, one after another: what one introduces another one may refer to. */
export class Explainer {
  readonly #keys: ReadKeyLog;
  readonly #lowerBytes: number;
  readonly #dialogues: Dialogues;

  /**
   * @param keys what the server has logged; left out: what is sealed is shown by its length only
   * @param models those that contents may be packed with
   * @param lowerBytes what is around a datagram on the wire
   */
  constructor(
    keys = new ReadKeyLog(),
    models: readonly LearningModel[] = [],
    lowerBytes: number = ETHERNET_IPV4_UDP_OVERHEAD,
  ) {
    this.#keys = keys;
    this.#dialogues = new Dialogues(models);
    this.#lowerBytes = lowerBytes;
  }

  /** Any bytes may be given. */
  explain(datagram: Uint8Array, direction: Direction = {}): Explained {
    const lower: Layer = { name: 'Ethernet, IP, UDP', bytes: this.#lowerBytes, parts: [] };
    if (isRecord(datagram)) {
      const record = decodeRecord(datagram);
      if (!record.ok)
        return unknown(lower, datagram, `a record of a pipe: ${record.problem.replace('_', ' ')}`);
      const { what, layers } = this.#recordLayers(record.value, datagram, direction);
      const said = what.length === 0 ? '' : `: ${what.join(', ')}`;
      return {
        what: `pipe ${record.value.kind}, ${datagram.length} B${said}`,
        layers: [lower, ...layers],
      };
    }
    const message = decode(datagram);
    if (message.ok)
      return { what: describeDatagram(datagram), layers: [lower, ...messageLayers(message.value)] };
    const isOurs = (datagram[0] ?? 0) >= FIRST_PLAIN_BYTE;
    const why = isOurs ? `no CoAP message: ${PROBLEMS[message.problem.reason]}` : 'neither CoAP nor a pipe';
    return unknown(lower, datagram, why);
  }

  #recordLayers(
    record: PipeRecord,
    datagram: Uint8Array,
    direction: Direction,
  ): { readonly what: readonly string[]; readonly layers: readonly Layer[] } {
    if (record.kind === 'data' || record.kind === 'control')
      return this.#transport(record, datagram, direction);
    const message = 'message' in record ? record.message : NO_BYTES;
    const early = (bytes: Uint8Array): readonly Part[] => earlyParts(bytes, this.#dialogues.of(direction));
    const payload = this.#keys.payloadOf(message);
    const parts = clearParts(record, datagram);
    if (!('message' in record)) return { what: [], layers: [layer('record', parts)] };
    return {
      what: [],
      layers: [layer('record', parts), layer('handshake', noiseParts(record.kind, message, payload, early))],
    };
  }

  #transport(
    record: Extract<PipeRecord, { kind: TransportKind }>,
    datagram: Uint8Array,
    direction: Direction,
  ): { readonly what: readonly string[]; readonly layers: readonly Layer[] } {
    const { sealed } = record;
    const sealedBytes = sealed.length - TAG_BYTES;
    const tag: Part = { name: 'tag', value: short(sealed.subarray(sealedBytes)), bytes: TAG_BYTES };
    const opened = openRecord(record, this.#keys);
    if (opened === undefined) {
      const closed = { name: 'sealed', value: 'with a key that is not known here', bytes: sealedBytes };
      return { what: [], layers: [layer('record', [...clearParts(record, datagram), closed, tag])] };
    }
    const { number, plaintext, station, ends } = opened;
    const dialogue = this.#dialogues.of(direction, record.destination, ends);
    const clear = clearParts(record, datagram, number);
    const open = { name: 'station', value: short(station), bytes: station.length };
    const said =
      record.kind === 'control'
        ? { what: [], layers: [layer('control', controlParts(plaintext))] }
        : dataLayers(plaintext, number, record.clear.isResend, dialogue);
    return {
      what: said.what,
      layers: [layer('record', [...clear, open]), ...said.layers, layer('record, its end', [tag])],
    };
  }
}

/** Explains one datagram by itself. */
export const explain = (datagram: Uint8Array, keys?: ReadKeyLog): Explained =>
  new Explainer(keys).explain(datagram);

const unknown = (lower: Layer, datagram: Uint8Array, what: string): Explained => ({
  what,
  layers: [lower, layer('unknown', [{ name: 'bytes', value: short(datagram), bytes: datagram.length }])],
});

/** What is in clear in front of what is sealed. */
function clearParts(record: PipeRecord, datagram: Uint8Array, number?: number): readonly Part[] {
  const first: Part = { name: 'kind, flags', value: firstByteText(record, datagram[0]!), bytes: 1 };
  switch (record.kind) {
    case 'XX1':
    case 'IK1': {
      const { version, refused, source, cookie } = record;
      return [
        first,
        { name: 'version', value: `${version >> 4}, suite ${version & 15}`, bytes: 1 },
        { name: 'refused versions', value: hex(Uint8Array.from(refused)), bytes: refused.length },
        connectionPart('source', source),
        { name: 'cookie', value: hex(cookie ?? NO_BYTES), bytes: cookie?.length ?? 0 },
      ];
    }
    case 'XX2':
    case 'XX3':
    case 'IK2':
      return [first, connectionPart('destination', record.destination)];
    case 'data':
    case 'control': {
      const { destination, clear } = record;
      const { truncated, numberLength, salt } = clear;
      const low = `...${hexNumber(truncated, numberLength)}`;
      return [
        first,
        connectionPart('destination', destination),
        { name: 'salt', value: hex(salt ?? NO_BYTES), bytes: salt?.length ?? 0 },
        { name: 'number', value: number === undefined ? low : String(number), bytes: numberLength },
      ];
    }
    case 'hint': {
      const { destination, truncated, numberLength } = record;
      const parts = [
        first,
        connectionPart('destination', destination),
        { name: 'number', value: `...${hexNumber(truncated, numberLength)}`, bytes: numberLength },
      ];
      return [...parts, restPart(datagram, sizeOf(parts))];
    }
    case 'cookie':
    case 'versions': {
      const content = record.kind === 'cookie' ? record.cookie : Uint8Array.from(record.versions);
      const parts = [
        first,
        connectionPart('destination', record.destination),
        { name: record.kind, value: hex(content), bytes: content.length },
      ];
      return [...parts, restPart(datagram, sizeOf(parts))];
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
