import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIPv4, isIPv6 } from 'node:net';
import { type Address, ETHERNET_IPV4_UDP_OVERHEAD, type Link, type LinkProfile } from './link.ts';

export interface UdpLinkOptions {
  /** An IP address of this machine; `::` takes IPv4 as well. */
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly profile?: Partial<LinkProfile>;
}

export interface UdpLink extends Link {
  /** What was actually bound. */
  readonly address: Address;
  /** Datagrams that the system would not send: a bad address, no route, no room. */
  readonly failures: number;
}

/** 20 bytes more than IPv4. */
const ETHERNET_IPV6_UDP_OVERHEAD = ETHERNET_IPV4_UDP_OVERHEAD + 20;

/** What IPv6's least MTU of 1280 leaves after 48 bytes of headers: no fragments on any path. */
const SAFE_MTU = 1232;
/** What IPv4's fragments carry, without the headers of IP and UDP. */
const LARGEST_DATAGRAM = 65_535 - 20 - 8;

/** The numeric host and port of an address; undefined where it is not one. Names are resolved by whoever has them. */
export function parseUdpAddress(
  address: Address,
): { readonly host: string; readonly port: number } | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (match === null || port < 1 || port > 65_535) return undefined;
  const [, six, four] = match;
  if (six !== undefined && isIPv6(six)) return { host: six, port };
  return four !== undefined && isIPv4(four) ? { host: four, port } : undefined;
}

const MAPPED = '::ffff:';

/** An IPv4 peer has one address, whichever socket it came in through. */
function formatUdpAddress(host: string, port: number): Address {
  const bare =
    host.startsWith(MAPPED) && isIPv4(host.slice(MAPPED.length)) ? host.slice(MAPPED.length) : host;
  return isIPv6(bare) ? `[${bare}]:${port}` : `${bare}:${port}`;
}

class DatagramLink implements UdpLink {
  readonly profile: LinkProfile;
  readonly address: Address;
  readonly #socket: Socket;
  readonly #six: boolean;
  #failures = 0;
  #closed: Promise<void> | undefined;

  constructor(socket: Socket, profile: LinkProfile, six: boolean) {
    this.#socket = socket;
    this.#six = six;
    this.profile = profile;
    const { address, port } = socket.address();
    this.address = formatUdpAddress(address, port);
    // What an earlier datagram met on its way (an ICMP error) is a loss, not a reason to stop.
    socket.on('error', () => {
      this.#failures++;
    });
  }

  get failures(): number {
    return this.#failures;
  }

  send(to: Address, bytes: Uint8Array): void {
    const target = parseUdpAddress(to);
    if (this.#closed !== undefined) return;
    if (target === undefined || (isIPv6(target.host) && !this.#six)) {
      this.#failures++;
      return;
    }
    const host = this.#six && isIPv4(target.host) ? MAPPED + target.host : target.host;
    this.#socket.send(bytes, target.port, host, (error) => {
      if (error !== null) this.#failures++;
    });
  }

  onReceive(receive: (from: Address, bytes: Uint8Array) => void): void {
    this.#socket.removeAllListeners('message');
    this.#socket.on('message', (bytes: Buffer, from: RemoteInfo) =>
      receive(formatUdpAddress(from.address, from.port), new Uint8Array(bytes)),
    );
  }

  close(): Promise<void> {
    this.#closed ??= new Promise((resolve) => {
      this.#socket.close(() => resolve());
    });
    return this.#closed;
  }
}

/** Binds a UDP socket. Rejects where that address cannot be bound. */
export function openUdpLink({ host, port, profile }: UdpLinkOptions): Promise<UdpLink> {
  const six = isIPv6(host);
  const socket = createSocket({ type: six ? 'udp6' : 'udp4' });
  const whole: LinkProfile = {
    mtu: SAFE_MTU,
    largest: LARGEST_DATAGRAM,
    rate: null,
    delay: 0,
    overhead: six ? ETHERNET_IPV6_UDP_OVERHEAD : ETHERNET_IPV4_UDP_OVERHEAD,
    ...profile,
  };
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind({ address: host, port, exclusive: true }, () => {
      socket.removeListener('error', reject);
      resolve(new DatagramLink(socket, whole, six));
    });
  });
}
