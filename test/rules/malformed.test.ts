import { describe, expect, it } from 'vitest';
import { concat } from '../../src/base/bytes.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { METHOD } from '../../src/coap/codes.ts';
import { encode } from '../../src/coap/message.ts';
import { agreementOf, encodeCapabilities, NOTHING_AGREED } from '../../src/pipe/agreement.ts';
import { decodeAnswered, encodeConfirmed, encodeProposal } from '../../src/pipe/handshake_payload.ts';
import { Handmade } from '../pipe/handmade.ts';
import { Network } from '../pipe/harness.ts';

const SEED = 11;
const RECORDS = 4_000;
const HANDSHAKES = 300;
const CAPABILITIES = encodeCapabilities(
  { ...NOTHING_AGREED, compactHeader: true },
  { isDevice: false, room: 40 },
);

/** A byte changed, cut, or anything else of some bytes that are right. */
function spoilt(bytes: Uint8Array, random: Random): Uint8Array {
  const kind = random.integer(4);
  if (kind === 0) return random.bytes(random.integer(80));
  const spoiling = bytes.slice(0, kind === 1 ? random.integer(bytes.length + 1) : bytes.length);
  for (let i = random.integer(4); i >= 0 && spoiling.length > 0; i--)
    spoiling[random.integer(spoiling.length)]! ^= 1 << random.integer(8);
  return spoiling;
}

/** A server, and a peer that everybody trusts and whose payloads are anything. */
function withPeer(seed: number) {
  const network = new Network();
  const side = network.add('b.example', 'b', seed);
  return { network, side, peer: new Handmade(network, 'b', seed + 1) };
}

describe('rule 8: whatever stands behind a tag that is right', () => {
  it(`in ${RECORDS} records is read or refused, and the session goes on (seed ${SEED})`, () => {
    const random = seededRandom(SEED);
    const { network, side, peer } = withPeer(SEED);
    const local = peer.newId();
    const header = peer.header('XX1', local);
    const handshake = peer.handshake('initiator', header);
    const proposal = encodeProposal({ generation: 5, capabilities: CAPABILITIES });
    peer.deliver(concat(header, handshake.writeMessage(concat(proposal, new Uint8Array(80)))));
    const second = handshake.readMessage(peer.message('XX2'));
    const said = second.ok ? decodeAnswered(second.value, side.identity.serverName) : second;
    if (!said.ok) throw new Error('the XX2 can be read');
    peer.later(
      'XX3',
      said.value.connectionId,
      handshake.writeMessage(encodeConfirmed(peer.identity, peer.bootId, undefined)),
    );
    const agreed = agreementOf({ own: CAPABILITIES, peer: said.value.capabilities });
    expect(agreed.compactHeader).toBe(true);
    peer.begin(handshake, { initiator: true, local, remote: said.value.connectionId }, side.identity, agreed);

    const message = encode({
      ...{ type: 'CON', code: METHOD.post, id: 5, token: Uint8Array.of(1, 2) },
      ...{ options: [], payload: Uint8Array.of(0x78) },
    });
    const compact = [
      [0x12, 0x78],
      [0x52, 0x60, 0xff, 0x78],
      [0x00, 0x08, 2, 0x78],
      [0x05, 2, 0x12, 0x78, 0x13, 0x79],
      [0x22, 1, 0x78],
      [0x72, 1, 0xff],
      [0x01, 0x80, 0x12, 0x78],
      [0x80],
      [0x03, 0x45, 0],
    ].map((bytes) => Uint8Array.from(bytes));
    const before = side.events.length;
    for (let i = 0; i < RECORDS; i++) {
      const isControl = random.integer(4) === 0;
      const forms = isControl
        ? [Uint8Array.of(2), Uint8Array.of(3, 1, 2, 3, 4, 5, 6, 7, 8), Uint8Array.of(5)]
        : [message, ...compact];
      const payload = spoilt(forms[random.integer(forms.length)]!, random);
      // 1 ends the session, as it should; 6 has this side begin anew.
      if (isControl && (payload[0] === 1 || payload[0] === 6)) continue;
      const isResend = !isControl && random.integer(3) === 0;
      peer.deliver(peer.session.seal(isControl ? 'control' : 'data', payload, { isResend }));
    }
    expect(side.endpoint.statistics.malformed).toBeGreaterThan(RECORDS / 20);
    expect(side.endpoint.statistics.unknown).toBeGreaterThan(0);
    expect(side.events.slice(before).filter(({ kind }) => kind === 'payload').length).toBeGreaterThan(
      RECORDS / 20,
    );
    expect(side.endpoint.sizes).toMatchObject({ sessions: 1, undecided: 0 });
    peer.deliver(peer.session.seal('data', Uint8Array.of(0x12, 0x79)));
    expect(side.events.at(-1)).toMatchObject({ kind: 'payload' });
    network.advance(60_000);
  });

  it(`in ${HANDSHAKES} handshakes of each kind is refused or understood, and makes nobody else of its sender (seed ${SEED})`, () => {
    const random = seededRandom(SEED);
    const { network, side } = withPeer(SEED);
    let peer = new Handmade(network, 'b');
    let understood = 0;
    for (let i = 0; i < HANDSHAKES; i++) {
      // Its connection ids have one byte each.
      if (i % 60 === 0) peer = new Handmade(network, 'b', i);
      const confirmed = { generation: 7 + i, capabilities: CAPABILITIES };
      const local = peer.newId();
      const header = peer.header('XX1', local);
      const handshake = peer.handshake('initiator', header);
      const proposal = encodeProposal(confirmed);
      const first = random.integer(2) === 0 ? proposal : spoilt(proposal, random);
      const before = network.captured.length;
      peer.deliver(concat(header, handshake.writeMessage(concat(first, new Uint8Array(120)))));
      network.advance(1_000);
      const isAnswered = network.captured.slice(before).some(({ datagram }) => datagram.label === 'XX2');
      if (!isAnswered) continue;
      const second = handshake.readMessage(peer.message('XX2'));
      const said = second.ok ? decodeAnswered(second.value, side.identity.serverName) : second;
      if (!said.ok) throw new Error('the XX2 can be read');
      const isRight = random.integer(4) === 0;
      // What was read in XX1 is not said again.
      const right = encodeConfirmed(peer.identity, peer.bootId, first === proposal ? undefined : confirmed);
      const events = side.events.length;
      peer.later(
        'XX3',
        said.value.connectionId,
        handshake.writeMessage(isRight ? right : spoilt(right, random)),
      );
      for (const event of side.events.slice(events)) {
        if (event.kind === 'identity' && event.claim.kind === 'server')
          expect(event.claim).toMatchObject({ serverName: 'handmade.example' });
        if (event.kind === 'identity') understood++;
      }
    }
    expect(understood).toBeGreaterThan(HANDSHAKES / 20);
    expect(understood).toBeLessThan(HANDSHAKES);
    expect(side.endpoint.sizes.peers).toBeLessThan(5);
  });
});
