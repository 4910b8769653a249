import { bad, ok, type Result } from '../base/result.ts';
import type { Address } from './link.ts';

// The specification's (tcpdump.org/linktypes.html; IEEE 802.3 and 802.1Q; RFC 791, 768, 8200).
export const LINKTYPE_RAW = 101;
const LINKTYPES = { null: 0, ethernet: 1, loop: 108, sll: 113, ipv4: 228, ipv6: 229, sll2: 276 } as const;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const ETHERTYPE_VLANS: ReadonlySet<number> = new Set([0x8100, 0x88a8]);
const UDP = 17;
export const IPV4_HEADER_BYTES = 20;
const IPV6_HEADER_BYTES = 40;
export const UDP_HEADER_BYTES = 8;
const IPV6_FRAGMENT = 44;
/** Hop-by-hop options, routing, destination options: each tells its length and what follows. */
const IPV6_EXTENSIONS: ReadonlySet<number> = new Set([0, 43, 60]);

// Ours.
const MAX_EXTENSIONS = 8;

/** A UDP datagram out of a captured frame. */
export interface UdpDatagram {
  readonly from: Address;
  readonly to: Address;
  readonly payload: Uint8Array;
  /** Bytes in front of it in the frame. */
  readonly headerBytes: number;
}

/**
 * Finds the UDP datagram in a frame.
 * @param linkType as in a capture
 * @returns a problem where it holds none, or not the whole of it
 */
export function udpOfFrame(frame: Uint8Array, linkType: number): Result<UdpDatagram> {
  const start = networkLayerAt(frame, linkType);
  if (start === undefined) return bad(`frames of link type ${linkType} are not read`);
  const version = (frame[start] ?? 0) >> 4;
  if (version === 4) return fromIpv4(frame, start);
  if (version === 6) return fromIpv6(frame, start);
  return bad('not an IP packet');
}

/** Where the IP header begins, by the link type alone: the first four bits of what is there tell the version. */
function networkLayerAt(frame: Uint8Array, linkType: number): number | undefined {
  switch (linkType) {
    case LINKTYPE_RAW:
    case LINKTYPES.ipv4:
    case LINKTYPES.ipv6:
      return 0;
    case LINKTYPES.null:
    case LINKTYPES.loop:
      return 4;
    case LINKTYPES.sll:
      return 16;
    case LINKTYPES.sll2:
      return 20;
    case LINKTYPES.ethernet: {
      let at = 12;
      while (ETHERTYPE_VLANS.has(uint16(frame, at)) && at < frame.length) at += 4;
      const type = uint16(frame, at);
      // Past the end is no IP packet.
      return type === ETHERTYPE_IPV4 || type === ETHERTYPE_IPV6 ? at + 2 : frame.length;
    }
    default:
      return undefined;
  }
}

function fromIpv4(frame: Uint8Array, start: number): Result<UdpDatagram> {
  const headerLength = (frame[start]! & 0x0f) * 4;
  const totalLength = uint16(frame, start + 2);
  if (headerLength < IPV4_HEADER_BYTES || totalLength < headerLength || start + totalLength > frame.length)
    return bad('the IPv4 packet is not whole');
  if (frame[start + 9] !== UDP) return bad('not UDP');
  // More fragments, or an offset.
  if ((uint16(frame, start + 6) & 0x3fff) !== 0) return bad('a fragment of an IPv4 packet');
  const [from, to] = [12, 16].map((at) => frame.subarray(start + at, start + at + 4).join('.'));
  return fromUdp(frame, start + headerLength, start + totalLength, from!, to!);
}

function fromIpv6(frame: Uint8Array, start: number): Result<UdpDatagram> {
  const end = start + IPV6_HEADER_BYTES + uint16(frame, start + 4);
  if (start + IPV6_HEADER_BYTES > frame.length || end > frame.length)
    return bad('the IPv6 packet is not whole');
  let next = frame[start + 6]!;
  let at = start + IPV6_HEADER_BYTES;
  for (let i = 0; IPV6_EXTENSIONS.has(next) && i < MAX_EXTENSIONS && at + 2 <= end; i++) {
    next = frame[at]!;
    at += (frame[at + 1]! + 1) * 8;
  }
  if (next === IPV6_FRAGMENT) return bad('a fragment of an IPv6 packet');
  if (next !== UDP) return bad('not UDP');
  const [from, to] = [8, 24].map((offset) => `[${ipv6Text(frame, start + offset)}]`);
  return fromUdp(frame, at, end, from!, to!);
}

function fromUdp(
  frame: Uint8Array,
  start: number,
  end: number,
  from: string,
  to: string,
): Result<UdpDatagram> {
  const length = uint16(frame, start + 4);
  if (start + UDP_HEADER_BYTES > end || length < UDP_HEADER_BYTES || start + length > end)
    return bad('the UDP datagram is not whole');
  const at = start + UDP_HEADER_BYTES;
  return ok({
    from: `${from}:${uint16(frame, start)}`,
    to: `${to}:${uint16(frame, start + 2)}`,
    payload: frame.subarray(at, start + length),
    headerBytes: at,
  });
}

/** 0 past the end. */
const uint16 = (bytes: Uint8Array, at: number): number => (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0);

/** As RFC 5952 has it; a URL parser knows which zeros are left out. */
function ipv6Text(bytes: Uint8Array, at: number): string {
  const groups = Array.from({ length: 8 }, (_, i) => uint16(bytes, at + 2 * i).toString(16));
  return URL.parse(`http://[${groups.join(':')}]`)?.hostname.slice(1, -1) ?? groups.join(':');
}
