import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concat, hex, utf8 } from '../../src/base/bytes.ts';
import { code, METHOD } from '../../src/coap/codes.ts';
import { decode, encode, type Message, NO_BYTES, partMessage } from '../../src/coap/message.ts';
import {
  type Answered,
  type CompactMessage,
  decodeMessage,
  encodeMessage,
  joint,
  MOST_HEADER_BYTES,
  MOST_MESSAGES,
  partMessages,
  type Reference,
  type TokenReference,
} from '../../src/pipe/message_header.ts';
import { LAST_PACKET_NUMBER } from '../../src/pipe/packet_number.ts';
import { Talk } from './talk.ts';

const bytesOf = fc.uint8Array({ maxLength: 12 });
const number = fc.oneof(
  fc.integer({ min: 1, max: 200 }),
  fc.integer({ min: 1, max: 2 ** 20 }),
  fc.constant(LAST_PACKET_NUMBER),
);
const session = fc.option(fc.oneof(fc.nat(9), fc.constant(2 ** 49 - 1)), { nil: null });
const reference = fc.record({ session, number, isShort: fc.boolean() });

/** A message that `encodeMessage` may be given, with its number: of the same session it names only what was before it. */
const sent = fc
  .record({
    type: fc.constantFrom('CON', 'NON', 'ACK', 'RST'),
    code: fc.oneof(fc.nat(8), fc.nat(255), fc.constantFrom(0x44, 0x45, 0x5f)),
    own: number,
    isFirst: fc.boolean(),
    references: fc.tuple(reference, reference, reference),
    kind: fc.constantFrom('new', 'plain', 'of', 'again', 'both'),
    token: fc.uint8Array({ maxLength: 30 }),
    rest: bytesOf,
  })
  .map(({ type, code: value, own, isFirst, references, kind, token, rest }) => {
    const [copy, owner, name] = references.map(({ session: of, number: one, isShort }) => ({
      ...{ session: of, number: of === null ? one % own : one },
      isShort: isShort && of === null,
    })) as [Answered, Answered, Answered];
    const isReply = type === 'ACK' || type === 'RST';
    const bare = ({ session: of, number: one }: Reference): Reference => ({ session: of, number: one });
    const tokens: Record<TokenReference['kind'], TokenReference> = {
      new: { kind: 'new' },
      plain: { kind: 'plain', token },
      of: { kind: 'of', owner: bare(owner) },
      again: { kind: 'again', name: bare(name) },
      both: { kind: 'both', owner: bare(owner), name: bare(name) },
    };
    const message: CompactMessage<Reference | Answered> = {
      ...{ type, code: value, rest, token: tokens[kind] },
      copy: isReply ? copy : isFirst ? null : bare(copy),
    };
    return { message, own };
  });

describe('a compact header', () => {
  it('says the same in every form, and has no more bytes than its bound', () => {
    fc.assert(
      fc.property(sent, fc.boolean(), ({ message, own }, isMarked) => {
        const { type, copy, token, rest } = message;
        const marked = isMarked || (copy !== null && (type === 'CON' || type === 'NON'));
        const bytes = encodeMessage(message, own, marked);
        const read = decodeMessage(bytes, own, marked);
        if (!read.ok) throw new Error(read.problem);
        expect({ ...read.value, copy: null }).toEqual({ ...message, copy: null });
        const said = read.value.copy;
        if (copy === null || said === null) expect(said).toBe(copy);
        else if ('ending' in said) expect([said.ending, copy.session]).toEqual([copy.number % 16, null]);
        else expect(said).toEqual({ session: copy.session, number: copy.number });
        const named = [copy, 'owner' in token && token.owner, 'name' in token && token.name]
          .map((one) => (one ? one.session : null))
          .filter((of) => of !== null);
        const plain = token.kind === 'plain' ? 1 + token.token.length : 0;
        if (new Set(named).size <= 1 && named.length !== 2)
          expect(bytes.length - rest.length).toBeLessThanOrEqual(MOST_HEADER_BYTES + plain);
      }),
      { numRuns: 3_000 },
    );
  });

  it('of any bytes is a message or none', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), number, fc.boolean(), (any, own, isMarked) => {
        const read = decodeMessage(any, own, isMarked);
        if (read.ok) expect(any.length).toBeGreaterThanOrEqual(read.value.rest.length);
        for (const part of partMessages(any) ?? []) decodeMessage(part, own, isMarked);
        decodeMessage(concat(Uint8Array.of(0), any), own, isMarked);
      }),
      { numRuns: 5_000 },
    );
  });

  it('leaves what begins a number that was seen, and RFC 7252, to those', () => {
    for (const first of [0x01, ...Array.from({ length: 64 }, (_, i) => 0x40 + i)])
      expect(decodeMessage(Uint8Array.of(first, 1, 2, 3), 9, false).ok, hex(Uint8Array.of(first))).toBe(
        false,
      );
  });

  it('stands once for each of several messages, up to a bound', () => {
    const several = (count: number): Uint8Array =>
      concat(...Array.from({ length: count - 1 }, () => concat(joint(3), utf8('abc'))), utf8('end'));
    expect(partMessages(several(1))).toEqual([utf8('end')]);
    expect(partMessages(several(MOST_MESSAGES))).toHaveLength(MOST_MESSAGES);
    expect(partMessages(several(MOST_MESSAGES + 1))).toBeUndefined();
    // A last message that is not there.
    expect(partMessages(concat(joint(3), utf8('abc')))).toBeUndefined();
    expect(partMessages(joint(200))).toBeUndefined();
  });
});

describe('messages of CoAP between two sides', () => {
  const options = fc
    .array(fc.record({ number: fc.nat(300), value: bytesOf }), { maxLength: 3 })
    .map((list) => list.toSorted((a, b) => a.number - b.number));
  const content = { options, payload: bytesOf };

  it('arrive as they were sent, but for ids and tokens that are each side’s own', () => {
    const own = fc.record({
      type: fc.constantFrom('CON', 'NON'),
      code: fc.oneof(fc.integer({ min: 1, max: 31 }), fc.integer({ min: 64, max: 191 })),
      id: fc.nat(0xffff),
      token: fc.uint8Array({ maxLength: 8 }),
      ...content,
    });
    const reply = fc.record({
      type: fc.constantFrom('ACK', 'RST'),
      code: fc.constantFrom(0, code(2, 4), code(2, 5), code(4, 3), code(5, 0)),
      ...content,
    });
    fc.assert(
      fc.property(own, reply, fc.nat(30), (message, answer, skipped) => {
        const talk = new Talk();
        for (let i = 0; i < skipped; i++) talk.a.skip();
        const asked = encode(message as Message);
        const arrived = talk.read('b', talk.write('a', asked));
        expect({ ...arrived, id: 0, token: 0 }).toEqual({ ...decoded(asked), id: 0, token: 0 });
        const empty = answer.code === 0 || answer.type === 'RST';
        const answered = encode({
          ...answer,
          id: arrived.id,
          ...(empty
            ? { code: 0, token: NO_BYTES, options: [], payload: NO_BYTES }
            : { token: arrived.token }),
        });
        const back = talk.read('a', talk.write('b', answered));
        const token = empty ? NO_BYTES : message.token;
        // What answers a request has its token; a response has none to give back but its own.
        expect(back).toEqual({ ...decoded(answered), id: message.id, token });
      }),
      { numRuns: 1_500 },
    );
  });

  it('have one byte in front, and so has the reply: a lone PUT and its answer', () => {
    const talk = new Talk();
    talk.a.skip(0x25);
    const put = { type: 'CON', code: METHOD.put, id: 0x4d31, token: Uint8Array.of(0x70, 0x71) } as const;
    const asked = talk.write('a', encode({ ...put, options: [], payload: utf8('x') }));
    expect(hex(asked.bytes)).toBe('13ff78');
    const { id, token } = talk.read('b', asked);
    const answered = talk.write(
      'b',
      encode({ type: 'ACK', code: code(2, 4), id, token, options: [], payload: NO_BYTES }),
    );
    // 2.04 to the number that ends with 5.
    expect(hex(answered.bytes)).toBe('c5');
    expect(talk.read('a', answered)).toMatchObject({ type: 'ACK', code: 0x44, id: 0x4d31, token: put.token });
  });

  it('name a request whose own token goes on the wire by it: an observation', () => {
    const talk = new Talk();
    const register = { type: 'CON', code: METHOD.get, id: 7, token: Uint8Array.of(0x99) } as const;
    const asked = talk.write(
      'a',
      encode({ ...register, options: [{ number: 6, value: NO_BYTES }], payload: NO_BYTES }),
    );
    expect(hex(asked.bytes)).toBe('00040101' + '99' + '60');
    const { token } = talk.read('b', asked);
    expect(hex(token)).toBe('99');
    const changed = talk.write(
      'b',
      encode({ type: 'CON', code: 0x45, id: 1, token, options: [], payload: utf8('!') }),
    );
    expect(hex(changed.bytes)).toBe('0a99ff21');
    expect(talk.read('a', changed)).toMatchObject({ type: 'CON', code: 0x45, token: register.token });
  });
});

const decoded = (bytes: Uint8Array): Message => {
  const message = decode(bytes);
  if (!message.ok || partMessage(bytes) === undefined) throw new Error('a message');
  return message.value;
};
