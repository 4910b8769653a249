import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concat, fromHex, hex, utf8 } from '../../src/base/bytes.ts';
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
/** Options, or a payload behind its marker, or nothing. */
const restOf = bytesOf.filter((rest) => rest.length !== 1 || rest[0] !== 0xff);
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
    rest: fc.oneof(
      restOf,
      bytesOf.map((payload) => (payload.length === 0 ? payload : concat(Uint8Array.of(0xff), payload))),
    ),
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

/** An integer of RFC 9000, section 16, in hexadecimal digits. */
function integer(value: number): string {
  const [digits, prefix] =
    value < 64 ? [2, 0n] : value < 2 ** 14 ? [4, 1n] : value < 2 ** 30 ? [8, 2n] : [16, 3n];
  return (BigInt(value) | (prefix << BigInt(4 * digits - 2))).toString(16).padStart(digits, '0');
}

const byte = (value: number): string => value.toString(16).padStart(2, '0');

/** The same as `encodeMessage`, slowly: the rows of the table in docs/protocol.md, one after another. */
function twin(
  { type, code: said, copy, token, rest }: CompactMessage<Reference | Answered>,
  own: number,
  isMarked: boolean,
): Uint8Array {
  const text = hex(rest);
  const hasOptions = text !== '' && !text.startsWith('ff');
  const behind = text.startsWith('ff') ? text.slice(2) : text;
  const plus = hasOptions ? 0x40 : 0;
  const isHere = (one: Reference | null): one is Reference => one !== null && one.session === null;
  const method = said >= 1 && said <= 7;
  const isReply = type === 'ACK' || type === 'RST';
  const distance = isMarked && !isReply ? integer(copy === null ? 0 : own - copy.number) : '';
  const nonBit = (bit: number): number => (type === 'NON' ? bit : 0);
  let head: string | undefined;
  if (isReply && isHere(copy) && token.kind === 'new') {
    const shorts = ['ACK 0', 'RST 0', 'ACK 69 o', 'ACK 95 o', 'ACK 68', 'ACK 69', 'ACK 95', 'ACK 132'];
    const one = shorts.indexOf(`${type} ${said}${hasOptions ? ' o' : ''}`);
    if ('isShort' in copy && copy.isShort && one >= 0) head = byte(128 + 16 * one + (copy.number % 16));
    else if (type === 'ACK') head = byte(3 + plus) + byte(said) + integer(copy.number);
    else if (said === 0 && !hasOptions) head = `04${integer(copy.number)}`;
  } else if (!isReply && (copy === null || isHere(copy))) {
    if (method && token.kind === 'new') head = byte(0x10 + nonBit(8) + said + plus) + distance;
    if (method && token.kind === 'of' && isHere(token.owner))
      head = byte(0x20 + nonBit(8) + said + plus) + distance + integer(own - token.owner.number);
    if (method && token.kind === 'again' && isHere(token.name))
      head = byte(0x30 + nonBit(8) + said + plus) + distance + integer(own - token.name.number);
    if (said === 0 && type === 'CON' && token.kind === 'new' && !hasOptions) head = `02${distance}`;
    if (!method && said !== 0) {
      const other = said === 0x45 ? 0 : 1;
      const spoken = distance + (other === 1 ? byte(said) : '');
      if (token.kind === 'of' && isHere(token.owner))
        head = byte(8 + nonBit(4) + other + plus) + spoken + integer(token.owner.number);
      if (token.kind === 'plain' && token.token.length === 1)
        head = byte(10 + nonBit(4) + other + plus) + spoken + hex(token.token);
    }
  }
  if (head === undefined) {
    const kinds = ['new', 'plain', 'of', 'again', 'both'];
    const flags =
      64 * ['CON', 'NON', 'ACK', 'RST'].indexOf(type) +
      (copy === null ? 0 : 32) +
      4 * kinds.indexOf(token.kind) +
      (hasOptions ? 1 : 0);
    head = `00${byte(flags)}${byte(said)}`;
    const named = [copy, 'owner' in token ? token.owner : null, 'name' in token ? token.name : null];
    let before: number | null = null;
    for (const one of named) {
      if (one === null) continue;
      const { session: of, number: at } = one;
      head += of === null ? '00' : of === before ? '01' : integer(of + 2);
      head += integer(at);
      before = of;
    }
    if (token.kind === 'plain') head += integer(token.token.length) + hex(token.token);
  }
  return fromHex(head + behind)!;
}

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
        expect(hex(bytes)).toBe(hex(twin(message, own, marked)));
      }),
      { numRuns: 3_000 },
    );
  });

  it('of any bytes says the same once it is written anew', () => {
    const first = fc.oneof(fc.integer({ min: 2, max: 255 }), fc.constantFrom(0x43, 0x53, 0x6b, 0xa5, 0xb1));
    fc.assert(
      fc.property(
        first,
        bytesOf,
        fc.integer({ min: 1, max: 60 }),
        fc.boolean(),
        (form, more, own, marked) => {
          const any = concat(Uint8Array.of(form), more);
          const read = decodeMessage(any, own, marked);
          if (!read.ok) return;
          const { copy, code: said } = read.value;
          // What is read as a response has its code, whatever that is; only responses are written so.
          if ((form & ~0x47) === 8 && said < 0x40) return;
          const isEnding = copy !== null && 'ending' in copy;
          const answered = isEnding ? { session: null, number: 16 + copy.ending, isShort: true } : copy;
          const written = encodeMessage({ ...read.value, copy: answered }, own, marked);
          expect(decodeMessage(written, own, marked)).toEqual(read);
        },
      ),
      { numRuns: 5_000 },
    );
  });

  it('of any bytes is a message or none', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), number, fc.boolean(), (any, own, isMarked) => {
        const read = decodeMessage(any, own, isMarked);
        // A payload without options had no marker, and has one now.
        if (read.ok) expect(any.length).toBeGreaterThanOrEqual(read.value.rest.length);
        for (const part of partMessages(any) ?? []) decodeMessage(part, own, isMarked);
        decodeMessage(concat(Uint8Array.of(0), any), own, isMarked);
      }),
      { numRuns: 5_000 },
    );
  });

  it('leaves what begins a number that was seen to that, and says of nothing empty that it has options', () => {
    for (const first of [0x01, 0x40, 0x41, 0x42, 0x44, 0x45, 0x46, 0x47])
      expect(decodeMessage(Uint8Array.of(first, 1, 2, 3), 9, false).ok, hex(Uint8Array.of(first))).toBe(
        false,
      );
  });

  it('has one way to say that there are options: a bit where there are, none where there are none', () => {
    const [option, payload] = [Uint8Array.of(0x60), Uint8Array.of(0xff, 0x78)];
    const put = { type: 'CON', code: METHOD.put, copy: null, token: { kind: 'new' } } as const;
    const written = (rest: Uint8Array): string => hex(encodeMessage({ ...put, rest }, 9, false));
    expect([NO_BYTES, payload, option, concat(option, payload)].map(written)).toEqual([
      '13',
      '1378',
      '5360',
      '5360ff78',
    ]);
    for (const bytes of ['53', '53ff78', 'a5', 'a5ff78', '43450a', '000103', '000103ff78', '00020360'])
      expect(decodeMessage(fromHex(bytes)!, 9, false).ok, bytes).toBe(false);
    expect(() => written(Uint8Array.of(0xff))).toThrow();
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
    expect(hex(asked.bytes)).toBe('1378');
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
    expect(hex(asked.bytes)).toBe('00050101' + '99' + '60');
    const { token } = talk.read('b', asked);
    expect(hex(token)).toBe('99');
    const changed = talk.write(
      'b',
      encode({ type: 'CON', code: 0x45, id: 1, token, options: [], payload: utf8('!') }),
    );
    expect(hex(changed.bytes)).toBe('0a9921');
    expect(talk.read('a', changed)).toMatchObject({ type: 'CON', code: 0x45, token: register.token });
  });
});

const decoded = (bytes: Uint8Array): Message => {
  const message = decode(bytes);
  if (!message.ok || partMessage(bytes) === undefined) throw new Error('a message');
  return message.value;
};
