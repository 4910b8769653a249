import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concat } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { Connections } from '../../src/pipe/connections.ts';
import { decodeControl, encodeClose } from '../../src/pipe/control.ts';
import {
  decodeAnswered,
  decodeConfirmed,
  encodeAnswered,
  encodeConfirmed,
} from '../../src/pipe/handshake_payload.ts';
import { isBound } from '../../src/pipe/identity.ts';
import {
  type ConnectionId,
  decodeConnectionId,
  decodeRecord,
  encodeConnectionId,
  encodeHint,
  firstHeader,
  handshakeHeader,
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
      fc.property(connectionId, fc.integer({ min: 0, max: 2 ** 32 - 1 }), bytes, (id, number, rest) => {
        const read = (part: Uint8Array) => {
          const record = decodeRecord(part);
          return record.ok ? record.value : undefined;
        };
        const first = firstHeader(id);
        expect(read(concat(first, rest))).toEqual({ kind: 'XX1', source: id, header: first, message: rest });
        for (const kind of ['XX2', 'XX3'] as const) {
          expect(read(concat(handshakeHeader(kind, id), rest))).toEqual({
            kind,
            destination: id,
            message: rest,
          });
        }
        const sealed = concat(new Uint8Array(16), rest);
        for (const kind of ['data', 'control'] as const) {
          const header = transportHeader(kind, id, number);
          expect(read(concat(header, sealed))).toEqual({ kind, destination: id, number, header, sealed });
        }
        expect(read(encodeHint(id, number))).toEqual({ kind: 'hint', destination: id, number });
      }),
    );
  });

  it('any bytes are a record or a problem', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (any) => {
        decodeRecord(any);
        decodeRecord(concat(Uint8Array.of(0x80 | (any[0] ?? 0)), any));
        decodeAnswered(any);
        decodeConfirmed(any);
        decodeControl(any);
      }),
      { numRuns: 2_000 },
    );
  });

  it('plain CoAP, DTLS, reserved bits, kinds and versions of later are problems', () => {
    const problem = (...any: number[]): unknown => {
      const record = decodeRecord(Uint8Array.from(any));
      return record.ok ? 'none' : record.problem;
    };
    expect(problem()).toBe('not_a_record');
    expect(problem(0x40, 1)).toBe('not_a_record');
    expect(problem(0xc0, 1)).toBe('unknown_kind');
    expect(problem(0x91, 0x11, 1)).toBe('reserved_bits');
    expect(problem(0x87, 1)).toBe('reserved_bits');
    expect(problem(0x90, 0x21, 1)).toBe('unsupported_version');
    expect(problem(0x83, 1, 0, 0, 0, 1, 0, 0, 0, 0, ...new Array(16).fill(0))).toBe('number_too_high');
    expect(problem(0x83, 1, 0, 0, 0, 0, 0, 0, 0, 0, ...new Array(15).fill(0))).toBe('too_short');
  });
});

describe('handshake payloads', () => {
  const random = seededRandom(1);
  const identity = identityOf('a.example', random);
  const bootId = random.bytes(8);

  it('read as they were written, with bytes of later versions behind', () => {
    const answered = encodeAnswered(identity, bootId, {
      connectionId: 0x8001 as ConnectionId,
      opening: true,
    });
    const read = decodeAnswered(concat(answered, random.bytes(5)));
    expect(read.ok && read.value).toMatchObject({
      connectionId: 0x8001,
      opening: true,
      bootId,
      serial: 1,
      serverName: 'a.example',
    });
    const confirmed = decodeConfirmed(encodeConfirmed(identity, bootId, { generation: 7 }));
    expect(confirmed.ok && confirmed.value).toMatchObject({ generation: 7, signingKeyId: 'ed25519:k1' });
  });

  it('are problems where they are cut anywhere', () => {
    const answered = encodeAnswered(identity, bootId, { connectionId: 1 as ConnectionId, opening: false });
    for (let length = 0; length < answered.length; length++) {
      expect(decodeAnswered(answered.subarray(0, length)).ok).toBe(false);
    }
  });

  it('the binding covers name, key id, Noise key and serial', () => {
    const { serverName, noisePublic, signingKeyId, signingPublic, serial, binding } = identity;
    const claim = { serverName, noisePublic, signingKeyId, signingPublic, serial };
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
