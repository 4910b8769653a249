import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import { openCoapDoor } from '../../src/doors/coap.ts';
import { ExchangeSocket } from '../../src/exchange/socket.ts';
import { Peers } from '../../src/federation/peers.ts';
import { PipeTransport } from '../../src/federation/pipe_transport.ts';
import type { FederationTransport } from '../../src/federation/transport.ts';
import { type PeerEntry, pipeAddresses, Transports, UDP_LINK } from '../../src/federation/transports.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD, type LinkProfile } from '../../src/link/link.ts';
import { SimulatedNetwork } from '../../src/link/simulated.ts';
import type { KeyId, ServerName } from '../../src/matrix/ids.ts';
import { signingKey } from '../../src/matrix/signing.ts';
import { createIdentity } from '../../src/pipe/identity.ts';
import { pipePeer } from '../../src/storage/pipe_peers.ts';
import { A, B, HOUR } from './fixtures.ts';
import { openServer, type Side } from './sides.ts';

const LINK: LinkProfile = { mtu: 1200, rate: 2_400, delay: 500, overhead: ETHERNET_IPV4_UDP_OVERHEAD };
const addresses: Record<ServerName, string> = { [A]: 'a', [B]: 'b' };

/** A server that is reached through a pipe only, at its letter in the network. */
async function openPiped(
  time: VirtualTime,
  network: SimulatedNetwork,
  [serverName, other]: readonly [ServerName, ServerName],
  seed: number,
  trust: 'tofu' | 'verified',
): Promise<{ side: Side; transports: Transports }> {
  const { clock } = time;
  const secret = seededRandom(seed).bytes(32);
  const keyId = 'ed25519:1' as KeyId;
  const peers: PeerEntry[] = [{ serverName: other, address: `ravine://${addresses[other]!}` }];
  let pipe: FederationTransport | undefined;
  const transports = new Transports({
    serverName,
    peers,
    pipe: { request: (to, call) => pipe!.request(to, call) },
  });
  const side = await openServer({
    clock,
    serverName,
    signingKey: signingKey(keyId, secret),
    seed,
    transports,
  });
  const { keys, database, log } = side;
  const known = new Peers({ serverName, peers, defaultTrust: trust, keys, database, clock, log });
  const socket = new ExchangeSocket({
    link: network.join(addresses[serverName]!, LINK),
    clock,
    random: seededRandom(seed + 10),
    identity: createIdentity({
      serverName,
      noiseSecret: seededRandom(seed + 20).bytes(32),
      signingKeyId: keyId,
      signingSecret: secret,
      serial: 1,
    }),
    trust: {
      decide: async (claim) =>
        claim.kind === 'server' ? known.decide(claim) : { trusted: false, reason: 'a device' },
    },
    plain: 'off',
  });
  pipe = new PipeTransport({
    links: new Map([[UDP_LINK, { socket, profile: LINK }]]),
    addresses: pipeAddresses(peers),
    forms: side.forms,
  });
  await openCoapDoor(side.app, socket, { encode: encodeJson, decode: decodeJson }, undefined, {
    restoreRequest: (_, request, reader) => side.forms.restoreRequest(other, request, reader),
    formAnswer: async (_, request, { status, body }) =>
      body?.kind === 'json' ? side.forms.formAnswer(request, status, body.value) : undefined,
  });
  return { side, transports };
}

async function openBoth(trust: 'tofu' | 'verified') {
  const time = new VirtualTime();
  const network = new SimulatedNetwork({ clock: time.clock, random: seededRandom(1) });
  network.connect('a', 'b', { rate: LINK.rate, latency: LINK.delay, loss: 0.1 });
  const a = await openPiped(time, network, [A, B], 1, trust);
  const b = await openPiped(time, network, [B, A], 2, trust);
  return { time, a, b };
}

describe('two servers with nothing but a pipe between them', () => {
  it('invite, join and talk over 2400 bit/s with loss, trusting the first key seen, and use no HTTPS', async () => {
    const { time, a, b } = await openBoth('tofu');
    const [alice, bob] = [a.side.user('alice'), b.side.user('bob')];
    const room = await time.until(a.side.rooms.create(alice, { preset: 'private_chat' }), HOUR);
    await time.until(a.side.rooms.memberships.invite(alice, room, bob), HOUR);
    await time.until(b.side.rooms.memberships.join(bob, room, {}), HOUR);
    await time.until(a.side.say(alice, room, 'hello bob'), HOUR);
    await time.pass(10 * 60_000);
    await time.until(b.side.say(bob, room, 'hello alice'), HOUR);
    await time.pass(10 * 60_000);
    expect(await a.side.messages()).toEqual(['hello bob', 'hello alice']);
    expect(await b.side.messages()).toEqual(['hello bob', 'hello alice']);
    expect(await b.side.state()).toEqual(await a.side.state());
    for (const { side } of [a, b]) {
      expect(side.forms.counters).toMatchObject({ writtenWhole: 0, askedWhole: 0 });
      expect(side.forms.counters.read).toBeGreaterThan(0);
      // Transactions have ids that no other message has.
      const ids = await side.database.all<{ txn_id: string }>('SELECT txn_id FROM federation_transactions');
      expect(ids.length).toBeGreaterThan(0);
      for (const { txn_id: id } of ids) expect(id).toMatch(/^~[0-9a-z]+\.[0-9a-z]+$|^\d+$/);
    }
    for (const { transports } of [a, b]) {
      expect(transports.counters.https).toBe(0);
      expect(transports.counters.pipe).toBeGreaterThan(0);
    }
    expect(await pipePeer(a.side.database, B)).toMatchObject({ trust: 'tofu', serial: 1 });
    expect(await pipePeer(b.side.database, A)).toMatchObject({ trust: 'tofu', serial: 1 });
  });

  it('do not talk where identities have to be verified and there is no key API', async () => {
    const { time, a, b } = await openBoth('verified');
    const [alice, bob] = [a.side.user('alice'), b.side.user('bob')];
    const room = await time.until(a.side.rooms.create(alice, { preset: 'private_chat' }), HOUR);
    await expect(
      time.until(a.side.rooms.memberships.invite(alice, room, bob), 2 * HOUR),
    ).rejects.toMatchObject({ status: 502 });
    expect(await pipePeer(a.side.database, B)).toBeUndefined();
    expect(await pipePeer(b.side.database, A)).toBeUndefined();
    expect([...a.side.log.lines, ...b.side.log.lines]).toContainEqual(
      expect.objectContaining({ level: 'warn', message: 'the identity of a pipe was refused' }),
    );
  });
});
