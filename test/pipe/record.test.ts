import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concat, equal } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { encodeCapabilities, NO_CAPABILITIES } from '../../src/pipe/agreement.ts';
import { Connections } from '../../src/pipe/connections.ts';
import { decodeControl, encodeClose } from '../../src/pipe/control.ts';
import {
  decodeAccepted,
  decodeAnswered,
  decodeConfirmed,
  decodeProposal,
  decodeResumed,
  encodeAccepted,
  encodeAnswered,
  encodeConfirmed,
  encodeProposal,
  encodeResumed,
  resumedLength,
} from '../../src/pipe/handshake_payload.ts';
import { createDeviceIdentity, isBound } from '../../src/pipe/identity.ts';
import {
  type ConnectionId,
  decodeConnectionId,
  decodeRecord,
  encodeConnectionId,
  encodeCookie,
  encodeFirst,
  encodeHint,
  encodeVersions,
  firstHeader,
  handshakeHeader,
  type TransportClear,
  transportHeader,
} from '../../src/pipe/record.ts';
import { identityOf } from './harness.ts';

const connectionId = fc
  .oneof(
    fc.integer({ min: 0, max: 0x7f }),
    fc.integer({ min: 0x8000, max: 0xbfff }),
    fc.integer({ min: 0xc000_0000, max: 0xffff_ffff }),
  )
  .map((id) => id as ConnectionId);
const bytes = fc.uint8Array({ maxLength: 60 });
const phase = fc.constantFrom<0 | 1>(0, 1);
const clear: fc.Arbitrary<TransportClear> = fc.oneof(
  ...([1, 2, 4] as const).map((numberLength) =>
    fc.record({
      phase,
      isResend: fc.boolean(),
      salt: fc.constant(undefined),
      truncated: fc.integer({ min: 0, max: 2 ** (8 * numberLength) - 1 }),
      numberLength: fc.constant(numberLength),
    }),
  ),
  fc.record({
    phase,
    isResend: fc.boolean(),
    salt: fc.uint8Array({ minLength: 8, maxLength: 8 }),
    truncated: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    numberLength: fc.constant<4>(4),
  }),
);

describe('records', () => {
  it('a connection id delimits itself', () => {
    fc.assert(
      fc.property(connectionId, bytes, (id, rest) => {
        const encoded = encodeConnectionId(id);
        expect(decodeConnectionId(concat(encoded, rest), 0)).toBe(id);
        expect(decodeConnectionId(encoded.subarray(1), 0) === id).toBe(false);
      }),
    );
  });

  it('every kind reads as it was written', () => {
    fc.assert(
      fc.property(connectionId, clear, bytes, (id, clear, rest) => {
        const read = (part: Uint8Array) => {
          const record = decodeRecord(part);
          return record.ok ? record.value : undefined;
        };
        for (const kind of ['XX1', 'IK1'] as const) {
          const refused = [...rest].slice(0, rest.length % 4);
          const offered = { version: rest[0] ?? 0x11, refused, source: id };
          const header = firstHeader(kind, offered);
          for (const cookie of [undefined, new Uint8Array(8).fill(7)]) {
            const first = { kind, ...offered, header, cookie, message: rest };
            expect(read(encodeFirst(header, rest, cookie))).toEqual(first);
          }
        }
        const cookie = new Uint8Array(8).fill(9);
        expect(read(encodeCookie(id, cookie))).toEqual({ kind: 'cookie', destination: id, cookie });
        const versions = [...rest].slice(0, 15);
        expect(read(encodeVersions(id, versions))).toEqual({ kind: 'versions', destination: id, versions });
        for (const kind of ['XX2', 'XX3', 'IK2'] as const) {
          expect(read(concat(handshakeHeader(kind, id), rest))).toEqual({
            kind,
            destination: id,
            message: rest,
          });
        }
        const sealed = concat(new Uint8Array(16), rest);
        for (const kind of ['data', 'control'] as const) {
          const own = { ...clear, isResend: kind === 'data' && clear.isResend };
          const header = transportHeader(kind, id, own);
          expect(read(concat(header, sealed))).toEqual({ kind, destination: id, clear: own, header, sealed });
        }
        const { truncated, numberLength } = clear;
        expect(read(encodeHint(id, clear))).toEqual({
          kind: 'hint',
          destination: id,
          truncated,
          numberLength,
        });
      }),
    );
  });

  it('any bytes are a record or a problem', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (any) => {
        decodeRecord(any);
        decodeRecord(concat(Uint8Array.of(0x80 | (any[0] ?? 0)), any));
        decodeAnswered(any, 'a.example');
        decodeConfirmed(any, undefined);
        decodeConfirmed(any, { generation: 1, capabilities: NO_CAPABILITIES });
        decodeProposal(any);
        decodeResumed(any);
        decodeAccepted(any);
        decodeControl(any);
      }),
      { numRuns: 2_000 },
    );
  });

  it('plain CoAP, DTLS and reserved bits are problems', () => {
    const problem = (...any: number[]): unknown => {
      const record = decodeRecord(Uint8Array.from(any));
      return record.ok ? 'none' : record.problem;
    };
    expect(problem()).toBe('not_a_record');
    expect(problem(0x40, 1)).toBe('not_a_record');
    expect(problem(0x98, 0x11, 1)).toBe('reserved_bits');
    expect(problem(0xd1, 1)).toBe('reserved_bits');
    expect(problem(0xfa, 1, 1)).toBe('reserved_bits');
    expect(problem(0x91, 0x11, 1, 0)).toBe('too_short');
    expect(problem(0x94, 0x11, 1, 1)).toBe('too_short');
    expect(problem(0xf8, 1, 1, 2, 3, 4, 5, 6, 7)).toBe('too_short');
    expect(problem(0xe4, 1)).toBe('reserved_bits');
    expect(problem(0xf3, 1, 0, 0, 0, 0)).toBe('reserved_bits');
    expect(problem(0x80, 1, 0, ...new Array(15).fill(0))).toBe('too_short');
    expect(problem(0x83, 1, ...new Array(12).fill(0), ...new Array(15).fill(0))).toBe('too_short');
  });
});

describe('handshake payloads', () => {
  const random = seededRandom(1);
  const identity = identityOf('a.example', random);
  const bootId = random.bytes(8);

  const capabilities = encodeCapabilities(
    {
      ...{ compactHeader: true, mtu: 300, rate: 9_600, parallelism: 2, dictionaries: [1, 255] },
      ...{ earlyData: true, deferredSignatures: true },
    },
    { isDevice: false, room: 100 },
  );
  /** After a zero nothing is read. */
  const later = concat(Uint8Array.of(0), random.bytes(5));
  const bothWays = [NO_CAPABILITIES, capabilities].flatMap((said) => [
    { capabilities: said, opening: true },
    { capabilities: said, opening: false },
  ]);

  it('read as they were written, with bytes of later versions behind', () => {
    for (const { capabilities, opening } of bothWays) {
      const connectionId = 0x8001 as ConnectionId;
      for (const isNegotiated of [false, true]) {
        const saidBack = { connectionId, opening, capabilities };
        const answered = encodeAnswered(identity, bootId, saidBack, isNegotiated);
        const read = decodeAnswered(concat(answered, later), 'b.example');
        expect(read.ok && read.value).toMatchObject({
          ...{ connectionId, opening, bootId, capabilities },
          identity: { kind: 'server', serial: 1, serverName: isNegotiated ? 'b.example' : 'a.example' },
        });
      }
      const said = { generation: 7, capabilities };
      const confirmed = encodeConfirmed(identity, bootId, said);
      const expected = { ...said, bootId, identity: { signingKeyId: 'ed25519:k1' } };
      const complete = decodeConfirmed(concat(confirmed, later), undefined);
      expect(complete.ok && complete.value).toMatchObject(expected);
      const short = encodeConfirmed(identity, bootId, undefined);
      expect(short).toHaveLength(8 + 6 + 32 + 64 + 1 + 2 + 9);
      for (const behind of [NO_CAPABILITIES, later]) {
        const rest = decodeConfirmed(concat(short, behind), said);
        expect(rest.ok && rest.value).toMatchObject({
          ...expected,
          identity: { ...expected.identity, serverName: 'a.example' },
        });
      }
    }
  });

  it('of XX3 may say that nothing follows, which whoever does not know it reads over', () => {
    const identity = identityOf('a.example', random);
    const said = { generation: 7, capabilities };
    expect(encodeConfirmed(identity, bootId, said, true)).toEqual(encodeConfirmed(identity, bootId, said));
    const short = encodeConfirmed(identity, bootId, undefined);
    const all = encodeConfirmed(identity, bootId, undefined, true);
    expect(all).toEqual(concat(short, Uint8Array.of(0, 1)));
    const read = decodeConfirmed(all, said);
    expect(read.ok && read.value).toMatchObject({ isAll: true, identity: { serverName: 'a.example' } });
    for (const later of [Uint8Array.of(0), Uint8Array.of(0, 2), new Uint8Array(0)]) {
      const other = decodeConfirmed(concat(short, later), said);
      expect(other.ok && 'isAll' in other.value).toBe(false);
    }
  });

  it('of a device have a boot id and a mark', () => {
    const device = createDeviceIdentity(random.bytes(32));
    const payload = encodeConfirmed(device, bootId, undefined);
    expect(payload).toHaveLength(9);
    const proposal = { generation: 7, capabilities };
    expect(decodeConfirmed(payload, proposal)).toEqual({
      ok: true,
      value: { ...proposal, bootId, identity: { kind: 'device' } },
    });
    expect(decodeAnswered(concat(Uint8Array.of(1), payload), 'a.example').ok).toBe(false);
  });

  it('of XX1 are padding, or a proposal in front of it', () => {
    const padding = new Uint8Array(20);
    expect(decodeProposal(padding)).toEqual({ ok: true, value: undefined });
    expect(decodeProposal(new Uint8Array(0))).toEqual({ ok: true, value: undefined });
    const proposal = { generation: 2 ** 47 + 5, capabilities };
    const encoded = encodeProposal(proposal);
    expect(decodeProposal(concat(encoded, padding))).toEqual({ ok: true, value: proposal });
    expect(decodeProposal(encoded)).toEqual({ ok: true, value: proposal });
    for (let length = 1; length < encoded.length; length++) {
      const read = decodeProposal(encoded.subarray(0, length));
      expect(read.ok && equal(read.value!.capabilities, capabilities)).toBe(false);
    }
  });

  it('of IK read as they were written, with or without what comes behind', () => {
    const resumed = { generation: 2 ** 47 + 5, check: random.bytes(6), bootId };
    for (const { capabilities, opening } of bothWays) {
      const said = { ...resumed, capabilities };
      expect(decodeResumed(concat(encodeResumed(said), later))).toEqual({ ok: true, value: said });
      expect(decodeResumed(encodeResumed(said).subarray(0, 19)).ok).toBe(false);
      for (const early of [false, true]) {
        const accepted = { connectionId: 0x8001 as ConnectionId, bootId, opening, capabilities, early };
        expect(decodeAccepted(encodeAccepted(accepted))).toEqual({ ok: true, value: accepted });
      }
    }
    for (const length of [0, 1, 63, 64, 900]) {
      const said = { ...resumed, capabilities: NO_CAPABILITIES, early: random.bytes(length) };
      const encoded = encodeResumed(said);
      expect(encoded).toHaveLength(resumedLength(length));
      expect(decodeResumed(concat(encoded, later))).toEqual({ ok: true, value: said });
      // Early data that is cut off is discarded, and nothing else.
      const cut = decodeResumed(encoded.subarray(0, -1));
      expect(cut).toEqual({ ok: true, value: { ...said, early: undefined } });
    }
    const shortest = {
      connectionId: 1 as ConnectionId,
      bootId,
      opening: false,
      capabilities: NO_CAPABILITIES,
      early: false,
    };
    expect(encodeAccepted(shortest)).toHaveLength(9);
  });

  it('are problems where they are cut anywhere', () => {
    const answered = encodeAnswered(identity, bootId, {
      connectionId: 1 as ConnectionId,
      opening: false,
      capabilities: NO_CAPABILITIES,
    });
    for (let length = 0; length < answered.length; length++) {
      expect(decodeAnswered(answered.subarray(0, length), 'a.example').ok).toBe(false);
    }
  });

  it('the binding covers name, key id, Noise key and serial', () => {
    const { serverName, noisePublic, signingKeyId, signingPublic, serial, binding } = identity;
    const claim = { kind: 'server', serverName, noisePublic, signingKeyId, signingPublic, serial } as const;
    expect(isBound(claim, binding)).toBe(true);
    expect(isBound({ ...claim, serverName: 'b.example' }, binding)).toBe(false);
    expect(isBound({ ...claim, signingKeyId: 'ed25519:k2' }, binding)).toBe(false);
    expect(isBound({ ...claim, noisePublic: signingPublic }, binding)).toBe(false);
    expect(isBound({ ...claim, signingPublic: noisePublic }, binding)).toBe(false);
    expect(isBound({ ...claim, serial: serial + 1 }, binding)).toBe(false);
  });

  it('a reason to close is cut and made printable', () => {
    expect(decodeControl(encodeClose('unknown\nkey'))).toEqual({ kind: 'close', reason: 'unknown?key' });
    expect(decodeControl(encodeClose('x'.repeat(500)))).toEqual({ kind: 'close', reason: 'x'.repeat(120) });
    expect(decodeControl(Uint8Array.of(99, 1))).toEqual({ kind: 'other' });
  });
});

describe('connection ids', () => {
  it('are short as long as there are few, unique, and used again once they are free', () => {
    const connections = new Connections<number>(seededRandom(2));
    const ids: ConnectionId[] = [];
    for (let i = 0; i < 10_000; i++) {
      const id = connections.choose();
      expect(connections.get(id)).toBeUndefined();
      connections.set(id, i);
      ids.push(id);
    }
    expect(ids.filter((id) => id < 0x80)).toHaveLength(64);
    expect(ids.filter((id) => id >= 0x8000 && id < 0xc000)).toHaveLength(8_192);
    connections.delete(ids[0]!, 99);
    expect(connections.get(ids[0]!)).toBe(0);
    ids.forEach((id, i) => {
      connections.delete(id, i);
    });
    expect(connections.size).toBe(0);
    expect(connections.choose()).toBeLessThan(0x80);
  });
});
