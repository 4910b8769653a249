import type { Millis } from '../base/time.ts';

/** Where a datagram goes to or comes from, in the link's own notation: `127.0.0.1:5683`, `[::1]:5683`, `b`. */
export type Address = string;

/** What is known about a link before anything was sent over it. */
export interface LinkProfile {
  /** The largest datagram in bytes of payload that goes in one piece. */
  readonly mtu: number;
  /** The largest one that arrives at all, in pieces; default `mtu`. */
  readonly largest?: number;
  /** Bits a second in each direction, or null where it is not known (then RFC 7252's timers hold). */
  readonly rate: number | null;
  /** One-way propagation delay in milliseconds; 0 where it is not known. */
  readonly delay: Millis;
  /** Bytes that lower layers add to each datagram; 42 for UDP over IPv4 over Ethernet. */
  readonly overhead: number;
  /** Airtime that may be used in any hour, by law or by choice; only where the rate is known. */
  readonly airtimePerHourMs?: Millis;
}

/** 14 bytes of Ethernet, 20 of IPv4 and 8 of UDP: what every figure in this project counts. */
export const ETHERNET_IPV4_UDP_OVERHEAD = 42;

const HOUR: Millis = 3_600_000;

/** Seconds-exact serialisation time of a datagram of `length` bytes, in milliseconds; 0 where the rate is not known. */
export function airtime(profile: LinkProfile, length: number): Millis {
  return profile.rate === null ? 0 : ((length + profile.overhead) * 8 * 1000) / profile.rate;
}

/** Bits a second that may be sent in the long run, or null where the rate is not known. */
export function sustainedRate({ rate, airtimePerHourMs = HOUR }: LinkProfile): number | null {
  return rate === null ? null : rate * Math.min(1, airtimePerHourMs / HOUR);
}

/** Carries datagrams. It never retries, reorders on purpose, or buffers beyond one packet. */
export interface Link {
  readonly profile: LinkProfile;
  /** Sends one datagram; losing it is legal. `label` says what it is, for captures and traces only. */
  send(to: Address, bytes: Uint8Array, label?: string): void;
  /** Sets the one receiver of datagrams. */
  onReceive(receive: (from: Address, bytes: Uint8Array) => void): void;
  close(): Promise<void>;
}
