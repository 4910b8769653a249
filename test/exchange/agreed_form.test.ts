import { describe, expect, test } from 'vitest';
import { base64, concat, hex, utf8 } from '../../src/base/bytes.ts';
import { COMPACT_DICTIONARY } from '../../src/compact/dictionary.ts';
import { sha256 } from '../../src/crypto/sha256.ts';
import { AgreedForms } from '../../src/exchange/agreed_form.ts';
import { pipeCodec } from '../../src/exchange/pipe_codec.ts';
import type { ExchangeRequest } from '../../src/exchange/request.ts';
import { pipeSessionStore } from '../../src/storage/pipe_sessions.ts';
import { IN_CLEAR } from '../../src/storage/sealing.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import { FAST, MINUTE, type Node, put, World } from './world.ts';

const ROOM = '!wJsZMdPUdWbCJMRxHo:a.example';
/** 32 bytes that are like no others, in unpadded base64. */
const hash = (of: string): string => base64(sha256(utf8(of)));
const eventId = (of: string): string => `$${hash(of).replaceAll('+', '-').replaceAll('/', '_')}`;

const FEDERATION_SEND: ExchangeRequest = {
  method: 'PUT',
  path: '/_matrix/federation/v1/send/1800000000000',
  query: '',
  body: {
    kind: 'json',
    value: {
      origin: 'a.example',
      origin_server_ts: 1_800_000_000_000,
      pdus: [
        {
          auth_events: [eventId('create'), eventId('member')],
          content: { msgtype: 'm.text', body: 'Hello World' },
          depth: 8,
          hashes: { sha256: hash('content') },
          origin_server_ts: 1_800_000_000_000,
          prev_events: [eventId('before')],
          room_id: ROOM,
          sender: '@al:a.example',
          signatures: { 'a.example': { 'ed25519:1': base64(concat(sha256(utf8('R')), sha256(utf8('S')))) } },
          type: 'm.room.message',
        },
      ],
    },
  },
};
const CLIENT_SEND: ExchangeRequest = {
  method: 'PUT',
  path: `/_matrix/client/v3/rooms/${encodeURIComponent(ROOM)}/send/m.room.message/7`,
  query: '',
  body: { kind: 'json', value: { msgtype: 'm.text', body: 'Hello World' } },
};
const LOGIN: ExchangeRequest = {
  method: 'POST',
  path: '/_matrix/client/v3/login',
  query: '',
  body: {
    kind: 'json',
    value: {
      type: 'm.login.password',
      identifier: { type: 'm.id.user', user: 'al' },
      password: 'm.login.password m.login.password',
    },
  },
};

const FEDERATION_PLAIN = `017d99cd4e83401080af3e8217133d9aa6862215f02402966d800205168809e1a7d0a5140a68f8799dbea8559b62b5758f9b
   4d76e6fbe63093696eff9be94614d69fed9e10f2eef63f9c8c797bf9aa9ce333cc974225494ddc062e344c1575020740b1d0
   abb1ddae8264169b28b1f10779bcdabd269a0257294d59c424988a30e41d1d725edda931676b0b3b14e7282c620a4485daf7
   39c7bcbf24ac84dd0223bf869fabbc6f01177ff09316c3be71d9a6045a0412938ed17bf5c26b1d47e23803b1416b482825b3
   2abb97ce67fddb94ef4736330c15c1ddd0c9a80c5837f5952574752077ae5b46e60464dda4c9d4aa3a48bdbaa9a79523858a
   11429f9d4a5a23e48f07e27be1eb272fed2f7fcaefe51ca94f581343f3e764e058343df22842a027b567384aaacb462e0f70
   8d6819d029aad7ca84a8f051c357d0d2a2c0da204f076b9d07450867e65c10914c82a4c44aa8d6a70aea03`;
const FEDERATION_COMPACT = `b2c001fa8847b0c33183273f5945508b31c3208a9e4ece58ca47233a05628d8dba3799e31ab643c44f7a0ec824b59d1194d6
   0dac334200d845e61d2d289daa0f087ea4ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f736d
   b7d803e74f1ffa7d8f5adc0bf95b3e15bf4c8373fffadf546227cc6c6742cb8c2574892063f995fdf756bce07f46c1a5193e
   54cd52837ed91e32008ccf41ac8de0b3c47f112c59745f717a626932264c422a7563954872e237b223af4ad6433b20cdc0c0
   b85822260048686526c2c60e802171e051ebe30c48481c39c27c3d1bdcc65208cf2fca4951e380bbfa08ebc1a272afe228df
   9480d094f024672fdfa00a8f7c84416c07921273804d178408cc6600`;
const CLIENT_PLAIN = `01ab408cefa18fad28967b1547f9a60484a68427397bf9065578e4ab1a3b26ea418dc73af462be08cdc3e050c8f600ce20e4
   2b8483e6d200`;
const CLIENT_COMPACT = `a263385854ee551ce59b12109a129ee4ece51b54e1919f99081b43e0b89e0d6e5b2984e717e5a40000`;

const forms = (...dictionaries: number[]): AgreedForms => new AgreedForms(() => ({ dictionaries }));

function written(by: AgreedForms, request: ExchangeRequest): Uint8Array {
  const coap = by.encodeRequest('b', request);
  if (!coap.ok) throw new Error(coap.problem);
  // Whatever the form is, it is read as it was.
  expect(pipeCodec.decodeRequest(coap.value)).toEqual({ ok: true, value: request });
  return coap.value.payload;
}

describe('a request has these bytes', () => {
  test.each([
    ['a federation send in the plain form', [], FEDERATION_SEND, FEDERATION_PLAIN],
    ['a federation send in the compact form', [COMPACT_DICTIONARY], FEDERATION_SEND, FEDERATION_COMPACT],
    ['a client send in the plain form', [], CLIENT_SEND, CLIENT_PLAIN],
    ['a client send in the compact form', [COMPACT_DICTIONARY], CLIENT_SEND, CLIENT_COMPACT],
  ])('%s', (_, dictionaries, request, bytes) => {
    expect(hex(written(forms(...dictionaries), request))).toBe(bytes.replaceAll(/\s/g, ''));
  });

  test('a login, whose parts are not compressed beside each other', () => {
    const bytes = written(forms(COMPACT_DICTIONARY), LOGIN);
    expect(hex(bytes.subarray(0, 1))).toBe('82');
    expect(hex(bytes)).toContain(hex(utf8('m.login.password m.login.password')));
    const answer = {
      status: 200,
      headers: {},
      body: { kind: 'json', value: { access_token: 'a'.repeat(99) } },
    } as const;
    const coap = forms(COMPACT_DICTIONARY).encodeResponse(
      'b',
      answer,
      { code: 2, options: [], payload: bytes },
      LOGIN,
    );
    expect(hex(coap.payload.subarray(0, 1))).toBe('82');
    expect(hex(coap.payload)).toContain(hex(utf8('a'.repeat(99))));
  });
});

test('a login in the plain form is not compressed either, and neither is its answer', () => {
  const bytes = written(forms(), LOGIN);
  expect(bytes[0]).toBe(0);
  expect(hex(bytes)).toContain(hex(utf8('m.login.password m.login.password')));
  const answer = {
    status: 200,
    headers: {},
    body: { kind: 'json', value: { access_token: 'a'.repeat(99) } },
  } as const;
  const coap = forms().encodeResponse('b', answer, { code: 2, options: [], payload: bytes }, LOGIN);
  expect(coap.payload[0]).toBe(0);
  expect(hex(coap.payload)).toContain(hex(utf8('a'.repeat(99))));
  // What could not be read may be about anything.
  const unread = forms().encodeResponse('b', answer, { code: 2, options: [], payload: bytes }, undefined);
  expect(unread.payload[0]).toBe(0);
});

/** Two servers that ask each other. */
function pair(seed: number, dictionaries: { readonly a?: number[]; readonly b?: number[] } = {}) {
  const world = new World(seed);
  world.connect('a', 'b', FAST);
  const { a: ofA, b: ofB } = dictionaries;
  const a = world.start('a', FAST, ofA && { dictionaries: ofA });
  const b = world.start('b', FAST, ofB && { dictionaries: ofB });
  const ask = (from: Node, to: Node, text: string) =>
    world.time.until(
      from.socket.request(to.name, to.address, put(text), { timeoutMs: 10 * MINUTE, priority: 1 }),
      10 * MINUTE,
    );
  return { world, a, b, ask };
}
const answerTo = (text: string) => ({ status: 200, body: { kind: 'json', value: { text } } });

describe('between two servers', () => {
  test('that both have the dictionary, everything but the first request is compact', async () => {
    const { a, b, ask } = pair(1);
    expect(await ask(a, b, 'one')).toMatchObject(answerTo('one'));
    expect([a, b].map(({ socket }) => socket.counters.written)).toEqual([
      { compact: 0, plain: 1 },
      { compact: 1, plain: 0 },
    ]);
    expect(await ask(a, b, 'two')).toMatchObject(answerTo('two'));
    expect(await ask(b, a, 'three')).toMatchObject(answerTo('three'));
    expect([a, b].map(({ socket }) => socket.counters.written)).toEqual([
      { compact: 2, plain: 1 },
      { compact: 3, plain: 0 },
    ]);
  });

  test.each([
    ['the one that asks', { a: [] }],
    ['the one that answers', { b: [] }],
    ['either', { a: [], b: [] }],
    ['the one that answers, which has another one,', { b: [77] }],
  ])('of which %s is older, everything is plain', async (_, dictionaries) => {
    const { a, b, ask } = pair(2, dictionaries);
    for (const text of ['one', 'two']) expect(await ask(a, b, text)).toMatchObject(answerTo(text));
    expect(await ask(b, a, 'three')).toMatchObject(answerTo('three'));
    expect([a, b].map(({ socket }) => socket.counters.written)).toEqual([
      { compact: 0, plain: 3 },
      { compact: 0, plain: 3 },
    ]);
  });

  test('an older version in the place of a peer is told again what it could not read', async () => {
    const { world, a, b, ask } = pair(3);
    await ask(a, b, 'one');
    await b.socket.close();
    const older = world.start('b', FAST, { dictionaries: [] });
    older.answer = async ({ body }) => {
      // What an older version says of the form; the one under test reads it and has to be told so.
      if (older.handled.length === 1) return { status: 400, headers: {} };
      return { status: 200, headers: {}, ...(body && { body }) };
    };
    expect(await ask(a, older, 'two')).toMatchObject(answerTo('two'));
    expect(older.handled).toHaveLength(2);
    expect(a.socket.counters).toMatchObject({ requestsOut: 2, written: { compact: 1, plain: 2 } });
    expect(a.socket.counters.held.requests).toBe(0);
  });

  test('an answer of 400 from a peer that reads the form is the answer', async () => {
    const { a, b, ask } = pair(4);
    b.answer = async () => ({ status: 400, headers: {} });
    expect(await ask(a, b, 'one')).toMatchObject({ status: 400 });
    expect(await ask(a, b, 'two')).toMatchObject({ status: 400 });
    expect(b.handled).toHaveLength(2);
  });

  test('a session that goes on after a start is compact from the first request on', async () => {
    const world = new World(5);
    world.connect('a', 'b', FAST);
    const store = pipeSessionStore(temporaryDatabase(), IN_CLEAR, 'udp');
    const first = world.start('a', FAST, { store });
    const b = world.start('b', FAST);
    const ask = (from: Node) =>
      world.time.until(
        from.socket.request(b.name, b.address, put('x'), { timeoutMs: MINUTE, priority: 1 }),
        MINUTE,
      );
    await ask(first);
    await first.socket.close();
    const again = world.start('a', FAST, { store });
    expect(await ask(again)).toMatchObject({ status: 200 });
    expect(again.socket.counters).toMatchObject({ resumed: 1, written: { compact: 1, plain: 0 } });
  });
});

test('what cannot be said is not counted', () => {
  const some = forms(COMPACT_DICTIONARY);
  expect(some.encodeRequest('b', { ...CLIENT_SEND, path: 'no path' })).toMatchObject({ ok: false });
  expect(some.written).toEqual({ compact: 0, plain: 0 });
});
