import { utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { keyVersionOf, type ServerIdentity } from '../../src/pipe/identity.ts';
import { Disk, identityOf, Network, Side } from '../pipe/harness.ts';

/** Ethernet with its checksum, IPv4 and UDP around a datagram, as wire.md counts. */
const LOWER_LAYERS = 42;
/** In clear in XX1 and IK1, and then an ephemeral key: first byte, version, a short connection id. */
const XX1_BYTES = 3 + 32;
const BOOT_ID_BYTES = 8;
const CHECK_BYTES = 6;
const [CALLER, CALLED] = ['alpha.example', 'bravo.example'] as const;
const SETTLE_MS = 60_000;
const PAYLOAD = 'what a message says';

export interface HandshakeBytes {
  readonly name: string;
  readonly records: number;
  /** On the wire, lower layers included. */
  readonly total: number;
  /** Of that who the sides are: keys, bindings, names, serials; boot ids; IK1's check. */
  readonly identities: number;
  /** What XX1 has to be filled up with: of that the proposal takes seven bytes. */
  readonly padding: number;
  /** `total` without those. */
  readonly rest: number;
  readonly budget: number;
}

export interface RecordBytes {
  readonly name: string;
  /** Of a record with that payload. */
  readonly bytes: number;
  /** What is neither options nor payload. */
  readonly overhead: number;
  readonly budget: number;
}

/** An identity in XX2 or XX3, with the boot id; XX2 leaves the name out, and XX3 its length. */
const identityBytes = ({ signingKeyId }: ServerIdentity, name: string): number =>
  BOOT_ID_BYTES + 6 + 32 + 64 + 1 + keyVersionOf(signingKeyId)!.length + utf8(name).length;

function side(network: Network, name: string, address: string, seed: number): Side {
  const random = seededRandom(seed);
  const added = new Side(network, address, identityOf(name, random), random);
  added.disk = new Disk();
  added.restart();
  network.join(added);
  return added;
}

/** Captures two handshakes, a restart and a few records between two servers, and counts their bytes. */
export function measureBytes(): { handshakes: readonly HandshakeBytes[]; records: readonly RecordBytes[] } {
  const network = new Network();
  const [a, b] = [side(network, CALLER, 'a', 1), side(network, CALLED, 'b', 2)];
  // What shows the initiator that its XX3 has arrived.
  b.onPayload = (peer) => b.send(peer, PAYLOAD);
  /** The datagrams that `act` leads to, in order. */
  const capture = (act: () => void): { readonly label: string; readonly bytes: Uint8Array }[] => {
    const before = network.captured.length;
    act();
    network.advance(SETTLE_MS);
    return network.captured.slice(before).map(({ datagram }) => datagram);
  };
  const say = (from: Side, to: string) => capture(() => from.send(to, PAYLOAD));
  const handshake = (
    name: string,
    sent: ReturnType<typeof capture>,
    labels: readonly string[],
    parts: { identities: number; padding: number; budget: number },
  ): HandshakeBytes => {
    const lengths = labels.map((label) => {
      const found = sent.filter((one) => one.label === label);
      if (found.length !== 1) throw new Error(`${name}: ${found.length} times ${label}`);
      return found[0]!.bytes.length;
    });
    const total = lengths.reduce((sum, length) => sum + LOWER_LAYERS + length, 0);
    const { identities, padding, budget } = parts;
    return { name, records: labels.length, total, ...parts, rest: total - identities - padding, budget };
  };

  const first = say(a, CALLED);
  const padding = first.find(({ label }) => label === 'XX1')!.bytes.length - XX1_BYTES;
  const identities = identityBytes(a.identity, CALLER) + identityBytes(b.identity, '');
  const xx = handshake('XX', first, ['XX1', 'XX2', 'XX3'], { identities, padding, budget: 192 + 3 * 45 });
  const ordinary = say(a, CALLED).find(({ label }) => label.startsWith('data'))!.bytes.length;
  const renewed = capture(() => a.run(a.endpoint.renew(CALLED, a.now)));
  const said = { identities: 2 * BOOT_ID_BYTES + CHECK_BYTES, padding: 0, budget: 144 + 2 * 48 };
  const ik = handshake('IK', renewed, ['IK1', 'IK2'], said);
  const known = say(a, CALLED).find(({ label }) => label.startsWith('data'))!.bytes.length;
  a.restart();
  const resumed = say(a, CALLED);
  const none = resumed.filter(({ label }) => /^(XX|IK)/.test(label));
  if (none.length > 0) throw new Error('a restart has led to a handshake');
  const salted = resumed.find(({ label }) => label.startsWith('data'))!.bytes.length;

  const record = (name: string, bytes: number, budget: number): RecordBytes => ({
    name,
    bytes,
    overhead: bytes - PAYLOAD.length,
    budget,
  });
  return {
    handshakes: [
      xx,
      ik,
      { name: 'resumed', records: 0, total: 0, identities: 0, padding: 0, rest: 0, budget: 0 },
    ],
    records: [
      record('after XX', ordinary, 20),
      record('after IK', known, 20),
      record('first after a restart', salted, 20 + 11),
    ],
  };
}
