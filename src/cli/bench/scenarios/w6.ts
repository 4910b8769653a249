import { utf8 } from '../../../base/bytes.ts';
import { X25519_BYTES } from '../../../crypto/x25519.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD } from '../../../link/link.ts';
import type { JsonObject } from '../../../matrix/json.ts';
import { BOOT_ID_BYTES } from '../../../pipe/handshake_payload.ts';
import { CHECK_BYTES, keyVersionOf, SERIAL_BYTES } from '../../../pipe/identity.ts';
import { DEFAULT_LIMITS } from '../../../pipe/limits.ts';
import { decodeRecord } from '../../../pipe/record.ts';
import { type Account, callDirectly, sendCall } from '../clients.ts';
import type { Row, Scenario } from '../scenario.ts';
import { type Captured, inWorld, type World, wireBytes } from '../world.ts';
import { HELLO, text, twoServers } from './hello.ts';

// docs/protocol.md, "Handshake payloads".
const SIGNING_KEY_BYTES = 32;
const BINDING_BYTES = 64;
/** In clear in front of XX1's key: first byte, version, a connection id of one byte. */
const XX1_HEADER_BYTES = 3;

/** The budgets: keys and tags, and with each record 42 bytes and a short header. */
const XX_BUDGET = 192 + 3 * 45;
const IK_BUDGET = 144 + 2 * 48;
const IDENTITIES_BUDGET = 300;
const SALT_BUDGET = 11;

const HANDSHAKE = /^(XX|IK)\d/;

/** What it takes until two servers have a session: the first time, a week later, and after a restart. */
export const w6: Scenario = () =>
  inWorld(['alpha', 'bravo'], async (world) => {
    const apps = () => [world.server('alpha').app, world.server('bravo').app] as const;
    const { value, datagrams } = await world.capture(() => twoServers(...apps()));
    const xx = handshakeOf(datagrams, ['XX1', 'XX2', 'XX3']);
    const padding =
      datagrams.find(({ label }) => label === 'XX1')!.wire -
      (ETHERNET_IPV4_UDP_OVERHEAD + XX1_HEADER_BYTES + X25519_BYTES);
    // The one that was called says no name, and that of the other one comes last, without a length.
    const name = utf8('alpha.example').length;
    const identities =
      name + (await identityBytes(world, 'alpha')) + (await identityBytes(world, 'bravo')) + padding;

    const { alice, room } = value;
    const sends = new Sends(world, alice, room);
    await world.time.pass(DEFAULT_LIMITS.renewAfterMs);
    const renewed = await sends.next();
    const ik = handshakeOf(renewed, ['IK1', 'IK2']);
    const sameBoot = 2 * BOOT_ID_BYTES + CHECK_BYTES;

    const ordinary = await sends.next();
    await world.stop('alpha');
    await world.start('alpha');
    const resumed = await sends.next();
    const handshakes = resumed.filter(({ label }) => HANDSHAKE.test(label));
    const salt = headerBytes(resumed) - headerBytes(ordinary);
    return [
      row(
        'W6',
        'handshake XX: its three records, without identities and padding',
        xx - identities,
        XX_BUDGET,
      ),
      row('W6b', 'identities of both sides and padding in XX', identities, IDENTITIES_BUDGET),
      row('W6c', 'handshake IK: its two records, without identities', ik - sameBoot, IK_BUDGET),
      row('W6d', 'resumed after a restart: handshake', wireBytes(handshakes), 0),
      row('W6e', 'resumed after a restart: what the first record has more', salt, SALT_BUDGET),
    ];
  });

const row = (id: string, name: string, total: number, budget: number): Row => ({
  id,
  name,
  bytes: { total },
  budget: { bytes: { total: budget } },
});

/** Messages of one room, as long as each other. */
class Sends {
  readonly #world: World;
  readonly #alice: Account;
  readonly #room: string;
  #sent = 0;

  constructor(world: World, alice: Account, room: string) {
    this.#world = world;
    this.#alice = alice;
    this.#room = room;
  }

  async next(): Promise<readonly Captured[]> {
    const call = sendCall(this.#room, text(HELLO), ++this.#sent);
    const app = this.#world.server('alpha').app;
    return (await this.#world.capture(() => callDirectly(app, this.#alice, call))).datagrams;
  }
}

/** The clear part of the first record that `alpha` sends. */
function headerBytes(datagrams: readonly Captured[]): number {
  const first = datagrams.find(({ from }) => from === 'alpha');
  const record = first === undefined ? undefined : decodeRecord(first.bytes);
  if (record?.ok !== true || record.value.kind !== 'data') throw new Error('a record was expected');
  return record.value.header.length;
}

/** The bytes of a handshake that has gone through at once. */
function handshakeOf(datagrams: readonly Captured[], labels: readonly string[]): number {
  const records = datagrams.filter(({ label }) => HANDSHAKE.test(label));
  const found = records.map(({ label }) => label);
  if (found.join() !== labels.join()) throw new Error(`${labels} was expected, not ${found}`);
  return wireBytes(records);
}

/** Who a server is, in XX2 and XX3, but for its name: boot id, serial, signing key and its id, binding. */
async function identityBytes(world: World, server: string): Promise<number> {
  const keys = await world.until(
    callDirectly(world.server(server).app, undefined, { method: 'GET', target: '/_matrix/key/v2/server' }),
  );
  const [keyId = ''] = Object.keys(keys.verify_keys as JsonObject);
  const version = 1 + keyVersionOf(keyId)!.length;
  return BOOT_ID_BYTES + SERIAL_BYTES + SIGNING_KEY_BYTES + BINDING_BYTES + version;
}
