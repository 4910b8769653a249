import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concat, equal } from '../../src/base/bytes.ts';
import {
  agreementOf,
  type Capabilities,
  capabilitiesAt,
  encodeCapabilities,
  NO_CAPABILITIES,
  NOTHING_AGREED,
} from '../../src/pipe/agreement.ts';
import {
  decodeConfirmed,
  encodeAccepted,
  encodeAnswered,
  encodeConfirmed,
  encodeProposal,
  encodeResumed,
} from '../../src/pipe/handshake_payload.ts';
import { CHECK_BYTES, identityDigest } from '../../src/pipe/identity.ts';
import { type ConnectionId, decodeConnectionId } from '../../src/pipe/record.ts';
import * as old from './frozen/payload_without_negotiation.ts';
import { Handmade } from './handmade.ts';
import { Disk, Network, type Side, storingPair } from './harness.ts';

const MINUTE = 60_000;
const HANDMADE = 'handmade.example';
const COMPACT: Capabilities = { ...NOTHING_AGREED, compactHeader: true };
const ROOM = { isDevice: false, room: 255 };
/** What a later release may say: features and parameters that nobody knows, and known ones besides. */
const NEWER = Uint8Array.of(0x96, 1, 2, 0x01, 0x2c, 2, 1, 100, 77, 3, 1, 2, 3, 200, 0);
const NEWER_AGREED = {
  ...{ compactHeader: true, mtu: 300, rate: 100, parallelism: null, dictionaries: [] },
  earlyData: false,
  deferredSignatures: false,
};
const PADDING = new Uint8Array(60);

function alone(): { network: Network; side: Side; peer: Handmade } {
  const network = new Network();
  const side = network.add('b.example', 'b', 1);
  side.disk = new Disk();
  side.restart();
  side.endpoint.setPeer(HANDMADE, 'handmade');
  return { network, side, peer: new Handmade(network, 'b') };
}

const digestOf = (peer: Handmade | Side, capabilities?: Uint8Array): Uint8Array =>
  identityDigest(peer.identity, capabilities).slice(0, CHECK_BYTES);

/** The handmade peer opens with XX and ends with a session. */
function opensXX(
  { side, peer }: { side: Side; peer: Handmade },
  first: Uint8Array,
  third: Uint8Array,
): Uint8Array {
  const local = peer.newId();
  const header = peer.header('XX1', local);
  const handshake = peer.handshake('initiator', header);
  peer.deliver(concat(header, handshake.writeMessage(first)));
  const second = handshake.readMessage(peer.message('XX2'));
  if (!second.ok) throw new Error('the XX2 can be read');
  const remote = decodeConnectionId(second.value, 0);
  if (remote === undefined) throw new Error('the XX2 begins with a connection id');
  peer.later('XX3', remote, handshake.writeMessage(third));
  peer.begin(handshake, { initiator: true, local, remote }, side.identity, NOTHING_AGREED);
  peer.confirm();
  return second.value;
}

/** The handmade peer answers an XX1; returns what XX1 and XX3 have said. */
function answersXX({ side, peer }: { side: Side; peer: Handmade }, second: (id: ConnectionId) => Uint8Array) {
  const record = peer.first('XX1');
  const handshake = peer.handshake('responder', record.header);
  const first = handshake.readMessage(record.message);
  const local = peer.newId();
  peer.later('XX2', record.source, handshake.writeMessage(second(local)));
  const third = handshake.readMessage(peer.message('XX3'));
  if (!first.ok || !third.ok) throw new Error('XX1 and XX3 can be read');
  peer.begin(handshake, { initiator: false, local, remote: record.source }, side.identity, NOTHING_AGREED);
  return { first: first.value, third: third.value };
}

const established = (side: Side): number => side.events.filter(({ kind }) => kind === 'established').length;
const agreed = (side: Side, peer: string) => side.endpoint.agreed(peer);

describe('with a peer of before negotiation (its codec is frozen)', () => {
  it('as initiator: XX and IK are as they were, and nothing is agreed', () => {
    const sides = alone();
    const { network, side, peer } = sides;
    const second = opensXX(
      sides,
      PADDING,
      old.encodeConfirmed(peer.identity, peer.bootId, { generation: 5 }),
    );
    const remote = old.decodeAnswered(second);
    if (!remote.ok) throw new Error('it is an XX2');
    expect(second).toHaveLength(old.encodeAnswered(side.identity, peer.bootId, remote.value).length);
    expect([established(side), agreed(side, HANDMADE)]).toEqual([1, NOTHING_AGREED]);
    side.send(HANDMADE, 'hello');
    expect(peer.canOpen('data')).toBe(true);

    const local = peer.newId();
    const header = peer.header('IK1', local);
    const handshake = peer.handshake('initiator', header, {
      digest: identityDigest(side.identity),
      remote: side.identity.noisePublic,
    });
    const said = { generation: 6, check: digestOf(peer), bootId: peer.bootId };
    peer.deliver(concat(header, handshake.writeMessage(old.encodeResumed(said))));
    const accepted = handshake.readMessage(peer.message('IK2'));
    if (!accepted.ok) throw new Error('the IK2 can be read');
    expect(accepted.value).toHaveLength(1 + 8);
    const answer = old.decodeAccepted(accepted.value);
    if (!answer.ok) throw new Error('the IK2 has what it always had');
    const terms = { initiator: true, local, remote: answer.value.connectionId };
    peer.begin(handshake, terms, side.identity, NOTHING_AGREED);
    peer.confirm();
    expect([established(side), agreed(side, HANDMADE)]).toEqual([2, NOTHING_AGREED]);
    network.advance(MINUTE);
    expect(side.disk!.load().at(-1)!.said.peer).toEqual(NO_CAPABILITIES);
  });

  it('as responder: XX and IK are as they were for it, and nothing is agreed', () => {
    const sides = alone();
    const { network, side, peer } = sides;
    side.send(HANDMADE, 'hello');
    const { third } = answersXX(sides, (connectionId) =>
      old.encodeAnswered(peer.identity, peer.bootId, { connectionId, opening: false }),
    );
    expect(old.decodeConfirmed(third).ok).toBe(true);
    expect(peer.canOpen('data')).toBe(true);
    peer.confirm();
    expect(agreed(side, HANDMADE)).toEqual(NOTHING_AGREED);

    network.advance(MINUTE);
    side.run(side.endpoint.renew(HANDMADE, side.now));
    const record = peer.first('IK1');
    const handshake = peer.handshake('responder', record.header, { digest: identityDigest(peer.identity) });
    const payload = handshake.readMessage(record.message);
    const said = payload.ok ? old.decodeResumed(payload.value) : payload;
    if (!said.ok) throw new Error('the IK1 can be read');
    expect(equal(said.value.check, digestOf(side))).toBe(true);
    const local = peer.newId();
    const accepted = { connectionId: local, bootId: peer.bootId, opening: false };
    peer.later('IK2', record.source, handshake.writeMessage(old.encodeAccepted(accepted)));
    peer.begin(handshake, { initiator: false, local, remote: record.source }, side.identity, NOTHING_AGREED);
    expect(peer.canOpen('ask')).toBe(true);
    expect([established(side), agreed(side, HANDMADE)]).toEqual([2, NOTHING_AGREED]);
  });
});

describe('with a newer peer that says more than this release knows', () => {
  it('as initiator: what is known is agreed, and its IK needs to say nothing again', () => {
    const sides = alone();
    const { side, peer } = sides;
    const proposal = encodeProposal({ generation: 5, capabilities: NEWER });
    const later = Uint8Array.of(0, 1, 2, 3);
    const third = encodeConfirmed(peer.identity, peer.bootId, undefined);
    const second = opensXX(sides, concat(proposal, later, PADDING), concat(third, later));
    expect(agreed(side, HANDMADE)).toEqual(NEWER_AGREED);
    const own = capabilitiesAt(second, second.length - 1);
    if (!own.ok) throw new Error('XX2 ends with capabilities');

    const local = peer.newId();
    const header = peer.header('IK1', local);
    const handshake = peer.handshake('initiator', header, {
      digest: identityDigest(side.identity, own.value),
      remote: side.identity.noisePublic,
    });
    const said = { generation: 6, check: digestOf(peer, NEWER), bootId: peer.bootId };
    const resumed = encodeResumed({ ...said, capabilities: NO_CAPABILITIES });
    peer.deliver(concat(header, handshake.writeMessage(resumed)));
    const accepted = handshake.readMessage(peer.message('IK2'));
    expect(accepted.ok && accepted.value).toHaveLength(1 + 8);
    const remote = (accepted.ok ? accepted.value[0]! : 0) as ConnectionId;
    peer.begin(handshake, { initiator: true, local, remote }, side.identity, NOTHING_AGREED);
    peer.confirm();
    expect([established(side), agreed(side, HANDMADE)]).toEqual([2, NEWER_AGREED]);
  });

  it('as responder: what is known is agreed, in XX and in an IK that says nothing', () => {
    const sides = alone();
    const { network, side, peer } = sides;
    side.send(HANDMADE, 'hello');
    const { first, third } = answersXX(sides, (connectionId) =>
      concat(
        encodeAnswered(peer.identity, peer.bootId, { connectionId, opening: true, capabilities: NEWER }),
        Uint8Array.of(0, 1, 2, 3),
      ),
    );
    const own = capabilitiesAt(first, 0, 7);
    if (!own.ok) throw new Error('XX1 begins with capabilities');
    const proposal = { generation: 0, capabilities: own.value };
    expect(decodeConfirmed(third, proposal).ok).toBe(true);
    expect(third).toHaveLength(encodeConfirmed(side.identity, peer.bootId, undefined).length);
    peer.confirm();
    expect(agreed(side, HANDMADE)).toEqual(NEWER_AGREED);

    network.advance(MINUTE);
    side.run(side.endpoint.renew(HANDMADE, side.now));
    const record = peer.first('IK1');
    const digest = identityDigest(peer.identity, NEWER);
    const handshake = peer.handshake('responder', record.header, { digest });
    const payload = handshake.readMessage(record.message);
    if (!payload.ok) throw new Error('the IK1 can be read');
    expect(payload.value).toHaveLength(6 + 6 + 8);
    expect(equal(payload.value.subarray(6, 12), digestOf(side, own.value))).toBe(true);
    const said = { bootId: peer.bootId, opening: false, capabilities: NO_CAPABILITIES };
    const accepted = encodeAccepted({ ...said, connectionId: peer.newId() });
    peer.later('IK2', record.source, handshake.writeMessage(accepted));
    expect([established(side), agreed(side, HANDMADE)]).toEqual([2, NEWER_AGREED]);
  });
});

/** Two sides that have said this of themselves and have a session. */
function talking(a: Partial<Capabilities>, b: Partial<Capabilities>): ReturnType<typeof storingPair> {
  const sides = storingPair();
  sides.a.config = { capabilities: a };
  sides.b.config = { capabilities: b };
  sides.a.restart();
  sides.b.restart();
  sides.b.onPayload = (peer, text) => sides.b.send(peer, `re ${text}`);
  sides.a.send('b.example', 'hello');
  sides.network.advance(MINUTE);
  return sides;
}

const bothAgreed = ({ a, b }: ReturnType<typeof storingPair>) => [
  agreed(a, 'b.example'),
  agreed(b, 'a.example'),
];

const SLOW = { mtu: 256, rate: 1_200, parallelism: 2, dictionaries: [3, 7] };
const QUICK = { mtu: 1_000, rate: 9_600, dictionaries: [7, 5, 3] };
const OF_SLOW = { ...COMPACT, mtu: 256, rate: 1_200, parallelism: 2, dictionaries: [7, 3] };
const OF_QUICK = { ...COMPACT, mtu: 1_000, rate: 9_600, dictionaries: [3, 7] };

describe('two sides', () => {
  it('tell each other what they take, and agree about what both have', () => {
    const sides = talking(SLOW, QUICK);
    expect(bothAgreed(sides)).toEqual([OF_QUICK, OF_SLOW]);
  });

  it('agree about nothing that only one of them offers', () => {
    expect(bothAgreed(talking({}, { compactHeader: false }))).toEqual([NOTHING_AGREED, NOTHING_AGREED]);
  });

  it('keep what they have agreed through IK, of which no byte tells it, and through restarts', () => {
    const sides = talking(SLOW, QUICK);
    const { network, a, b } = sides;
    network.captured.length = 0;
    a.run(a.endpoint.renew('b.example', a.now));
    network.advance(MINUTE);
    expect(network.labels().slice(0, 2)).toEqual(['a IK1', 'b IK2']);
    expect(network.captured[0]!.datagram.bytes).toHaveLength(35 + 48 + 20 + 16);
    expect(network.captured[1]!.datagram.bytes).toHaveLength(2 + 32 + 9 + 16);
    expect(bothAgreed(sides)).toEqual([OF_QUICK, OF_SLOW]);
    network.captured.length = 0;
    a.restart();
    b.restart();
    a.send('b.example', 'sealed before the other one has heard of the start');
    network.advance(MINUTE);
    a.send('b.example', 'again');
    network.advance(MINUTE);
    expect(network.labels().filter((label) => / (XX|IK)/.test(label))).toEqual([]);
    expect(a.payloads.at(-1)).toBe('b.example: re again');
    expect(bothAgreed(sides)).toEqual([OF_QUICK, OF_SLOW]);
  });

  it('that have something else to say after a start renew their session, and say it', () => {
    for (const which of ['a', 'b'] as const) {
      const sides = talking(SLOW, QUICK);
      const { network, a, b } = sides;
      network.captured.length = 0;
      sides[which].config = { capabilities: { ...(which === 'a' ? SLOW : QUICK), mtu: 500 } };
      sides[which].restart();
      a.send('b.example', 'hello');
      b.send('a.example', 'hello');
      network.advance(5 * MINUTE);
      expect(network.labels()).toContain(`${which} IK1`);
      const [ofB, ofA] = bothAgreed(sides);
      expect([ofB!.mtu, ofA!.mtu]).toEqual(which === 'a' ? [1_000, 500] : [500, 256]);
      expect([ofB!.rate, ofA!.rate]).toEqual([9_600, 1_200]);
    }
  });

  it('say it in XX3 where an IK1 could not be read', () => {
    const sides = talking(SLOW, QUICK);
    const { network, a, b } = sides;
    network.captured.length = 0;
    b.disk!.rows = new Map();
    b.restart();
    a.run(a.endpoint.renew('b.example', a.now));
    network.advance(MINUTE);
    expect(network.labels().slice(0, 3)).toEqual(['a IK1', 'b XX2', 'a XX3']);
    expect(bothAgreed(sides)).toEqual([OF_QUICK, OF_SLOW]);
  });

  it('renew a session of before negotiation, and agree', () => {
    const sides = talking({}, {});
    const { network, a, b } = sides;
    for (const side of [a, b]) {
      side.disk!.rows = new Map(
        [...side.disk!.rows].map(([local, row]) => [
          local,
          { ...row, said: { own: NO_CAPABILITIES, peer: NO_CAPABILITIES } },
        ]),
      );
      side.restart();
    }
    expect(bothAgreed(sides)).toEqual([NOTHING_AGREED, NOTHING_AGREED]);
    network.captured.length = 0;
    a.send('b.example', 'hello');
    network.advance(MINUTE);
    expect(network.labels()).toContain('a IK1');
    expect(network.labels()).not.toContain('b XX2');
    expect(bothAgreed(sides)).toEqual([COMPACT, COMPACT]);
  });

  it('are not rolled back by somebody who takes the proposal out of XX1, or the answer to it out of XX2', () => {
    for (const label of ['XX1', 'XX2']) {
      const sides = storingPair();
      const { network, a, b } = sides;
      network.channel = ({ datagram: { bytes, label: sent } }) => {
        const changed = bytes.slice();
        if (sent === label && label === 'XX1') changed.fill(0, 35);
        return [{ after: 20, bytes: sent === label && label === 'XX2' ? changed.subarray(0, -1) : changed }];
      };
      a.send('b.example', 'hello');
      network.advance(5 * MINUTE);
      expect(b.events.concat(a.events).filter(({ kind }) => kind === 'established')).toEqual([]);
      expect(a.endpoint.statistics.unauthenticated).toBeGreaterThan(0);
    }
  });
});

describe('capabilities', () => {
  const value = fc.option(fc.integer({ min: 128, max: 2 ** 32 - 1 }));
  const capabilities = fc.record({
    compactHeader: fc.boolean(),
    mtu: fc.option(fc.integer({ min: 128, max: 1_199 })),
    rate: value,
    parallelism: value,
    dictionaries: fc.oneof(
      fc.uniqueArray(fc.integer({ min: 1, max: 255 }), { maxLength: 20 }),
      fc.uniqueArray(fc.constantFrom(2, 129, 130)),
    ),
    earlyData: fc.boolean(),
    deferredSignatures: fc.boolean(),
  });

  it('read as they were written', () => {
    fc.assert(
      fc.property(capabilities, fc.boolean(), (said, isDevice) => {
        const bytes = encodeCapabilities(said, { isDevice, room: 255 });
        const behind = capabilitiesAt(concat(Uint8Array.of(9), bytes, Uint8Array.of(0, 7)), 1);
        expect(behind).toEqual({ ok: true, value: bytes });
        const all = encodeCapabilities({ ...said, compactHeader: true, earlyData: true }, ROOM);
        const { compactHeader, earlyData } = said;
        expect(agreementOf({ own: all, peer: bytes })).toEqual({
          ...said,
          dictionaries: said.dictionaries.toSorted((a, b) => Number(a === 2) - Number(b === 2)),
          earlyData: compactHeader && earlyData,
        });
      }),
    );
  });

  it('of any bytes are some, or none, or a problem', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(10), (bytes, at) => {
        const read = capabilitiesAt(bytes, at);
        if (!read.ok || read.value.length === 0) return;
        expect(read.value.length).toBeLessThanOrEqual(255);
        const { mtu, rate, parallelism } = agreementOf({ own: read.value, peer: read.value });
        expect(mtu ?? 128).toBeGreaterThanOrEqual(128);
        expect(rate ?? 10).toBeGreaterThanOrEqual(10);
        expect(parallelism ?? 1).toBeGreaterThanOrEqual(1);
      }),
    );
  });

  it('cost nothing but their first byte where they are the usual ones, and leave out what finds no room', () => {
    const usual = { ...COMPACT, mtu: 1_200, dictionaries: [129, 130, 2] };
    expect(encodeCapabilities(usual, ROOM)).toHaveLength(1);
    const said = { ...OF_SLOW, dictionaries: [1, 2, 3, 4] };
    expect(encodeCapabilities(said, { isDevice: false, room: 10 })).toEqual(
      encodeCapabilities({ ...said, dictionaries: [2], parallelism: null }, ROOM),
    );
    // Nobody is said to have a model that he has not.
    for (let room = 0; room < 20; room++) {
      for (const dictionaries of [[2], [130, 2], [130, 129, 2], [7, 129, 130, 2], [129, 130, 2]]) {
        const bytes = encodeCapabilities({ ...said, dictionaries }, { isDevice: false, room });
        const all = encodeCapabilities({ ...said, dictionaries: [1, 2, 7, 129, 130] }, ROOM);
        expect(bytes.length).toBeLessThanOrEqual(1 + room);
        const read = agreementOf({ own: bytes, peer: all }).dictionaries;
        expect([dictionaries, [2], []]).toContainEqual(read);
        if (room >= 2) expect(read).toContain(2);
      }
    }
  });
});
