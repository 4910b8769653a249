import { describe, expect, test } from 'vitest';
import { bad, ok } from '../../src/base/result.ts';
import type { CompactReader } from '../../src/compact/value_reader.ts';
import type { CompactWriter } from '../../src/compact/value_writer.ts';
import { AgreedForms } from '../../src/exchange/agreed_form.ts';
import { pipeCodec } from '../../src/exchange/pipe_codec.ts';
import { plainCodec } from '../../src/exchange/plain_codec.ts';
import type { Body, ExchangeRequest } from '../../src/exchange/request.ts';
import { FAST, MINUTE, World } from './world.ts';

/** A toy: `{"n":number}` is the number. */
const toy = (n: number, bare?: true): Body => ({
  kind: 'formed',
  json: { n },
  write: (writer: CompactWriter) => writer.varint(n),
  ...(bare && { bare }),
});
const read = (reader: CompactReader) => {
  const n = reader.varint();
  return n !== undefined && reader.atEnd ? ok({ n }) : bad(reader.problem);
};
const asked: ExchangeRequest = {
  method: 'PUT',
  path: '/_matrix/client/v3/rooms/!a%3Ab/send/m.text/1',
  query: '',
  body: toy(7),
};
const compact = new AgreedForms(() => ({ dictionaries: [2] }));
const plain = new AgreedForms(() => ({ dictionaries: [] }));

function written(by: AgreedForms) {
  const coap = by.encodeRequest('b', asked);
  if (!coap.ok) throw new Error(coap.problem);
  return coap.value;
}

describe('a body in a form', () => {
  test('is written by its application and read by its application', () => {
    const got = pipeCodec.decodeRequest(written(compact));
    if (!got.ok || got.value.body?.kind !== 'compact') throw new Error('compact');
    expect(read(got.value.body.reader)).toEqual(ok({ n: 7 }));
  });

  test('is JSON for who does not read the compact form, and in plain CoAP', () => {
    const json = { kind: 'json', value: { n: 7 } };
    expect(pipeCodec.decodeRequest(written(plain))).toMatchObject({ ok: true, value: { body: json } });
    const coap = plainCodec.encodeRequest(asked);
    if (!coap.ok) throw new Error(coap.problem);
    expect(plainCodec.decodeRequest(coap.value)).toMatchObject({ ok: true, value: { body: json } });
  });

  test('of an answer may be nothing at all', () => {
    const body: Body = { kind: 'formed', json: { pdus: {} }, write: () => {} };
    const coap = compact.encodeResponse('b', { status: 200, headers: {}, body }, written(compact), asked);
    expect(coap.payload).toHaveLength(0);
    expect(pipeCodec.decodeResponse(coap, asked)).toEqual(ok({ status: 200, headers: {} }));
  });

  test('of an answer may stand alone, where the request says that it does', () => {
    const response = { status: 200, headers: {}, body: toy(9, true) };
    const coap = compact.encodeResponse('b', response, written(compact), asked);
    expect(coap.payload).toHaveLength(2);
    const got = pipeCodec.decodeResponse(coap, asked);
    if (!got.ok || got.value.body?.kind !== 'compact') throw new Error('compact');
    expect(read(got.value.body.reader)).toEqual(ok({ n: 9 }));
    // An object is one there as well.
    const json = { status: 200, headers: {}, body: { kind: 'json', value: { event_id: '$a' } } } as const;
    expect(
      pipeCodec.decodeResponse(compact.encodeResponse('b', json, written(compact), asked), asked),
    ).toEqual(ok(json));
  });

  test('goes both ways between two sockets', async () => {
    const world = new World(1);
    world.connect('a', 'b', FAST);
    const [a, b] = ['a', 'b'].map((letter) => world.start(letter, FAST)) as [
      ReturnType<World['start']>,
      ReturnType<World['start']>,
    ];
    b.answer = async ({ body }) => {
      if (body?.kind === 'json') return { status: 200, headers: {}, body };
      if (body?.kind !== 'compact') throw new Error('no body');
      await Promise.resolve();
      const value = read(body.reader);
      return value.ok
        ? { status: 200, headers: {}, body: toy(value.value.n + 1, true) }
        : { status: 400, headers: {} };
    };
    const ask = () =>
      world.time.until(
        a.socket.request(b.name, b.address, asked, { timeoutMs: MINUTE, priority: 1 }),
        MINUTE,
      );
    expect((await ask()).body).toEqual({ kind: 'json', value: { n: 7 } });
    const { body } = await ask();
    expect(body?.kind === 'compact' && read(body.reader)).toEqual(ok({ n: 8 }));
  });
});
