import { isIPv4, isIPv6 } from 'node:net';
import { concat, utf8 } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import type { Address } from './link.ts';
import { IPV4_HEADER_BYTES, LINKTYPE_RAW, UDP_HEADER_BYTES } from './udp_frame.ts';

// The format's (draft-ietf-opsawg-pcapng, sections 3, 4.1 to 4.3).
const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE = 1;
const ENHANCED_PACKET = 6;
const BYTE_ORDER = 0x1a2b3c4d;
const OPTION_COMMENT = 1;
const UNITS_IN_MS = 1000;

const UDP = 17;
const HOP_LIMIT = 64;
/** Stands for an address that is none of IP: a serial line's, a WebSocket's. */
const NO_ADDRESS: Host = { kind: 4, bytes: new Uint8Array(4), port: 0 };

/** What a pcapng file begins with: one section, one interface on which IP packets are seen. */
export function captureHeader(): Uint8Array {
  const section = words(BYTE_ORDER, 1, 0xffffffff, 0xffffffff);
  return concat(block(SECTION_HEADER, section), block(INTERFACE, words(LINKTYPE_RAW, 0)));
}

/**
 * A datagram as a block of a pcapng file. IP and UDP around it are made up, so that everybody's tools show it; their
 * checksums are left out.
 * @param at Unix time in milliseconds
 * @param comment for people; empty: none
 */
export function captureBlock(
  datagram: { readonly from: Address; readonly to: Address; readonly bytes: Uint8Array },
  at: Millis,
  comment: string,
): Uint8Array {
  const packet = ipPacket(hostOf(datagram.from), hostOf(datagram.to), datagram.bytes);
  const units = Math.round(at * UNITS_IN_MS);
  const head = words(0, Math.floor(units / 2 ** 32), units % 2 ** 32, packet.length, packet.length);
  const text = utf8(comment);
  const options = text.length === 0 ? [] : [halves(OPTION_COMMENT, text.length), padded(text), halves(0, 0)];
  return block(ENHANCED_PACKET, concat(head, padded(packet), ...options));
}

interface Host {
  readonly kind: 4 | 6;
  readonly bytes: Uint8Array;
  readonly port: number;
}

function hostOf(address: Address): Host {
  const [, bracketed, bare, port = ''] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(address) ?? [];
  const host = bracketed ?? bare ?? '';
  if (isIPv4(host))
    return { kind: 4, bytes: Uint8Array.from(host.split('.').map(Number)), port: Number(port) };
  if (isIPv6(host)) return { kind: 6, bytes: ipv6Bytes(host), port: Number(port) };
  return NO_ADDRESS;
}

/** Of an address without a zone. */
function ipv6Bytes(text: string): Uint8Array {
  const [bare = ''] = text.split('%');
  // A URL parser writes an IPv4 part as groups; only :: is left to fill in.
  const parsed = URL.parse(`http://[${bare}]`)?.hostname.slice(1, -1) ?? '::';
  const [head = '', tail] = parsed.split('::');
  const groupsOf = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const [before, after] = [groupsOf(head), groupsOf(tail ?? '')];
  const gap = Array<string>(8 - before.length - after.length).fill('0');
  return concat(
    ...[...before, ...gap, ...after].map((group) => {
      const value = Number.parseInt(group, 16);
      return Uint8Array.of(value >> 8, value & 0xff);
    }),
  );
}

function ipPacket(from: Host, to: Host, payload: Uint8Array): Uint8Array {
  const udpLength = UDP_HEADER_BYTES + payload.length;
  const udp = concat(big16(from.port), big16(to.port), big16(udpLength), big16(0), payload);
  if (from.kind === 6 && to.kind === 6) {
    const head = Uint8Array.of(0x60, 0, 0, 0, ...big16(udpLength), UDP, HOP_LIMIT);
    return concat(head, from.bytes, to.bytes, udp);
  }
  const four = (host: Host): Uint8Array => (host.kind === 4 ? host.bytes : NO_ADDRESS.bytes);
  const length = IPV4_HEADER_BYTES + udpLength;
  const head = Uint8Array.of(0x45, 0, ...big16(length), 0, 0, 0, 0, HOP_LIMIT, UDP, 0, 0);
  return concat(head, four(from), four(to), udp);
}

const big16 = (value: number): Uint8Array => Uint8Array.of((value >> 8) & 0xff, value & 0xff);

/** Little-endian, as the section says. */
function words(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setUint32(4 * i, value, true);
  return bytes;
}

const halves = (first: number, second: number): Uint8Array => words((first | (second << 16)) >>> 0);

const padded = (bytes: Uint8Array): Uint8Array => concat(bytes, new Uint8Array((4 - (bytes.length % 4)) % 4));

function block(type: number, body: Uint8Array): Uint8Array {
  const length = words(12 + body.length);
  return concat(words(type), length, body, length);
}
