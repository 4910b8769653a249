import { equal } from '../base/bytes.ts';
import { deviceKeyOf, nameOf } from './identity.ts';
import type { PipeLimits } from './limits.ts';
import { Peer } from './peer.ts';

/** Peers by name. Servers and devices have a bound each, so that devices, of which anybody can make some, displace no server. */
export class PeerTable {
  readonly #limits: PipeLimits;
  readonly #servers = new Map<string, Peer>();
  readonly #devices = new Map<string, Peer>();

  constructor(limits: PipeLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#servers.size + this.#devices.size;
  }

  find(name: string): Peer | undefined {
    return this.#servers.get(name) ?? this.#devices.get(name);
  }

  /** The peer of that name. Where there are too many, one of which nothing is left but its address makes room. */
  get(name: string): Peer {
    const known = this.find(name);
    if (known !== undefined) return known;
    const isDevice = deviceKeyOf(name) !== undefined;
    const peers = isDevice ? this.#devices : this.#servers;
    if (peers.size >= (isDevice ? this.#limits.devices : this.#limits.peers)) {
      for (const peer of peers.values()) {
        if (!peer.isIdle) continue;
        peers.delete(peer.name);
        break;
      }
    }
    const peer = new Peer(name, this.#limits);
    peers.set(name, peer);
    return peer;
  }

  /** The servers. */
  servers(): Iterable<Peer> {
    return this.#servers.values();
  }

  /** The peer whose newest trusted identity has that Noise key. */
  withKey(noisePublic: Uint8Array): Peer | undefined {
    for (const peer of this.#servers.values())
      if (peer.known !== undefined && equal(peer.known.claim.noisePublic, noisePublic)) return peer;
    const device = this.#devices.get(nameOf({ kind: 'device', noisePublic }));
    return device?.known && device;
  }
}
