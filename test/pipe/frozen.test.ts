import { describe, expect, it } from 'vitest';
import { concat, utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { generateKeyPair } from '../../src/crypto/x25519.ts';
import { HandshakeState } from '../../src/noise/handshake_state.ts';
import { type Role, XX } from '../../src/noise/pattern.ts';
import { SUITE } from '../../src/pipe/prologue.ts';
import { encodeAnswered, encodeConfirmed } from './frozen/handshake_payload.ts';
import {
  type ConnectionId,
  decodeRecord,
  firstHeader,
  handshakeHeader,
  transportHeader,
} from './frozen/record.ts';
import { identityOf, Network } from './harness.ts';

/*
 * A peer of before this version was completed. It was never released, has the same version byte, and another prologue:
 * so the two fail cleanly. Nobody believes to have a session, and nothing of the old one's is taken for something else.
 */

const MINUTE = 60_000;
const ID = 5 as ConnectionId;
const random = seededRandom(9);
const old = identityOf('old.example', random);
const bootId = random.bytes(8);

const oldHandshake = (role: Role, header: Uint8Array): HandshakeState =>
  new HandshakeState({
    pattern: XX,
    suite: SUITE,
    role,
    prologue: concat(utf8('ravine pipe'), header, Uint8Array.of(0)),
    static: { secret: old.noiseSecret, public: old.noisePublic },
    generate: () => generateKeyPair(random),
  });

function alone(): { network: Network; side: ReturnType<Network['add']> } {
  const network = new Network();
  const side = network.add('b.example', 'b', 1);
  side.endpoint.setPeer('old.example', 'old');
  return { network, side };
}

describe('an older codec', () => {
  it('as initiator gets an answer that it cannot read, and its records are those of nobody', () => {
    const { network, side } = alone();
    const header = firstHeader(ID);
    const handshake = oldHandshake('initiator', header);
    network.deliver('old', 'b', concat(header, handshake.writeMessage(new Uint8Array(60))));
    const second = decodeRecord(network.captured[0]!.datagram.bytes);
    if (!second.ok || second.value.kind !== 'XX2') throw new Error('an XX2 that the older codec can parse');
    expect(handshake.readMessage(second.value.message)).toEqual({ ok: false, problem: 'forged' });
    const confirmed = encodeConfirmed(old, bootId, { generation: 1 });
    network.deliver('old', 'b', concat(handshakeHeader('XX3', ID), confirmed));
    network.deliver('old', 'b', concat(transportHeader('data', ID, 0), random.bytes(40)));
    network.advance(20 * MINUTE);
    expect(side.events).toEqual([]);
    expect(side.endpoint.sizes).toMatchObject({ sessions: 0, halfOpen: 0, undecided: 0 });
  });

  it('as responder cannot be read, and the opening goes on as if nobody had answered', () => {
    const { network, side } = alone();
    side.send('old.example', 'hello');
    const first = decodeRecord(network.captured[0]!.datagram.bytes);
    if (!first.ok || first.value.kind !== 'XX1') throw new Error('an XX1 that the older codec can parse');
    const handshake = oldHandshake('responder', first.value.header);
    expect(handshake.readMessage(first.value.message).ok).toBe(true);
    const answered = encodeAnswered(old, bootId, { connectionId: ID, opening: false });
    const second = concat(handshakeHeader('XX2', first.value.source), handshake.writeMessage(answered));
    network.deliver('old', 'b', second);
    expect(side.endpoint.statistics.unauthenticated).toBe(1);
    network.advance(20 * MINUTE);
    expect(new Set(side.events.map(({ kind }) => kind))).toEqual(new Set(['unreachable']));
    expect(side.endpoint.sizes).toMatchObject({ sessions: 0, openings: 0 });
  });

  it('does not take a first message of IK for anything', () => {
    expect(decodeRecord(Uint8Array.of(0xc0, 0x11, 5))).toEqual({ ok: false, problem: 'unknown_kind' });
  });
});
