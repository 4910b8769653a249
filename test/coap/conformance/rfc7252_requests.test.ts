import { describe, expect, it } from 'vitest';
import { fromUtf8, hex, utf8 } from '../../../src/base/bytes.ts';
import { parseCoapUri } from '../../../src/cli/coap/uri.ts';
import type { CoapStep } from '../../../src/coap/api.ts';
import { type BlockSize, blockOption } from '../../../src/coap/block.ts';
import { code } from '../../../src/coap/codes.ts';
import type { CoapEndpoint } from '../../../src/coap/endpoint.ts';
import { NO_BYTES } from '../../../src/coap/message.ts';
import { OPTION, type Option, stringOf, stringOption, uintOption } from '../../../src/coap/options.ts';
import { rfc7252Timing } from '../../../src/coap/timing.ts';
import { plainCodec } from '../../../src/exchange/plain_codec.ts';
import { Checklist, REQUESTS } from './clauses.ts';
import { Plugtest } from './plugtest.ts';
import { large } from './plugtest_server.ts';
import {
  ask,
  bytesOf,
  CHANGED,
  CONTENT,
  content,
  DELETE,
  endpointWith,
  eventsOf,
  GET,
  get,
  leave,
  NOTHING,
  PATH,
  POST,
  PUT,
  passing,
  plain,
  requestIn,
  sent,
  summary,
  wanted,
} from './raw.ts';

const clauses = new Checklist(REQUESTS);

const CREATED = code(2, 1);

/** Unknown numbers: critical where odd. */
const CRITICAL: Option = { number: 65_001, value: Uint8Array.of(1) };
const ELECTIVE: Option = { number: 65_004, value: Uint8Array.of(1) };

/** A server that has acknowledged a request empty, and now answers it. */
function separately(): { server: CoapEndpoint; request: Uint8Array; answer: CoapStep; id: number } {
  const server = endpointWith();
  const request = bytesOf('CON', GET, 1, { options: [PATH] });
  const asked = server.receive('client', request, 0);
  expect(summary(server.tick(asked.deadline!))).toEqual(['ACK 0.00']);
  const answer = server.respond(requestIn(asked).exchange, content(utf8('late')), 5_000);
  leave(server, answer, 5_000);
  return { server, request, answer, id: sent(answer)[0]!.id };
}

describe('RFC 7252, requests and responses', () => {
  it(clauses.name('7252/5.2.1/either'), () => {
    const client = endpointWith();
    const one = ask(client);
    const { id, token } = one.message;
    const first = client.receive('server', bytesOf('ACK', CONTENT, id, { token }), 10);
    expect(eventsOf(first, 'response')).toMatchObject([{ handle: one.handle }]);
    const two = ask(client, 20);
    client.receive('server', bytesOf('ACK', 0, two.message.id), 30);
    const second = client.receive('server', bytesOf('CON', CONTENT, 7, { token: two.message.token }), 40);
    expect(eventsOf(second, 'response')).toMatchObject([{ handle: two.handle }]);
  });

  it(clauses.name('7252/5.2.2/no-second-ack'), () => {
    const { server, request, answer } = separately();
    expect(summary(answer)).toEqual(['CON 2.05']);
    for (const now of [5_100, 9_000]) {
      expect(server.receive('client', request, now).datagrams.map((one) => hex(one.bytes))).toEqual([
        '60000001',
      ]);
    }
  });

  it(clauses.name('7252/5.2.2/separately'), () => {
    const server = endpointWith();
    const request = bytesOf('CON', GET, 1, { options: [PATH] });
    const { exchange } = requestIn(server.receive('client', request, 0));
    // It is the copy that brings the acknowledgement about, before its time.
    expect(summary(server.receive('client', request, 100))).toEqual(['ACK 0.00']);
    const answer = server.respond(exchange, content(), 200);
    expect(summary(answer)).toEqual(['CON 2.05']);
    expect(sent(answer)[0]?.token).toEqual(Uint8Array.of(9));
  });

  it(clauses.name('7252/5.2.2/client-ack-empty'), () => {
    const client = endpointWith();
    const { message } = ask(client);
    const response = bytesOf('CON', CONTENT, 0x7777, { token: message.token, payload: utf8('late') });
    const step = client.receive('server', response, 10);
    expect(step.datagrams.map((one) => hex(one.bytes))).toEqual(['60007777']);
  });

  it(clauses.name('7252/5.2.2/stops'), () => {
    const replies: [string, (id: number) => Uint8Array][] = [
      ['empty', (id) => bytesOf('ACK', 0, id)],
      ['reset', (id) => bytesOf('RST', 0, id)],
      ['with a response', (id) => bytesOf('ACK', CONTENT, id)],
      ['with a response and a payload', (id) => bytesOf('ACK', CHANGED, id, { payload: utf8('what') })],
      ['with an error', (id) => bytesOf('ACK', 0x84, id, { token: NO_BYTES })],
    ];
    for (const [name, reply] of replies) {
      const { server, id } = separately();
      const step = server.receive('client', reply(id), 5_100);
      expect(step, name).toMatchObject(NOTHING);
      expect(passing(server, step, 600_000).sent, name).toEqual([]);
    }
  });

  it(clauses.name('7252/5.2.3/non-response'), () => {
    for (const acknowledged of ['before', 'after', 'never'] as const) {
      const client = endpointWith();
      const { handle, message } = ask(client);
      const empty = bytesOf('ACK', 0, message.id);
      if (acknowledged === 'before') client.receive('server', empty, 10);
      const response = bytesOf('NON', CONTENT, 7, { token: message.token });
      const step = client.receive('server', response, 20);
      expect(eventsOf(step, 'response'), acknowledged).toMatchObject([{ handle }]);
      expect(step.datagrams).toEqual([]);
      if (acknowledged === 'after') expect(client.receive('server', empty, 30)).toMatchObject(NOTHING);
      expect(passing(client, step, 600_000).sent, acknowledged).toEqual([]);
    }
  });

  it(clauses.name('7252/5.2.3/con-response'), () => {
    const client = endpointWith();
    const { handle, message } = ask(client, 0, { confirmable: false });
    expect(message.type).toBe('NON');
    const step = client.receive('server', bytesOf('CON', CONTENT, 7, { token: message.token }), 20);
    expect(eventsOf(step, 'response')).toMatchObject([{ handle }]);
    expect(sent(step)).toMatchObject([{ type: 'ACK', code: 0, id: 7 }]);
  });

  it(clauses.name('7252/5.3.1/token-echoed'), () => {
    const tokens = ['', '00', '0000', 'ff', '0102030405060708'].map((text) =>
      Uint8Array.from(Buffer.from(text, 'hex')),
    );
    for (const token of tokens) {
      for (const type of ['CON', 'NON'] as const) {
        const server = endpointWith();
        const asked = server.receive('client', bytesOf(type, GET, 1, { token }), 0);
        const answers = [
          server.respond(requestIn(asked).exchange, content(), 0),
          server.receive('client', bytesOf(type, 31, 2, { token }), 0),
          server.receive('client', bytesOf('CON', GET, 3, { token, options: [CRITICAL] }), 0),
          server.receive(
            'client',
            bytesOf(type, PUT, 4, { token, options: [uintOption(OPTION.block1, 7)] }),
            0,
          ),
        ];
        const responses = answers.flatMap(sent);
        expect(responses).toHaveLength(4);
        for (const response of responses) expect(response.token).toEqual(token);
      }
    }
  });

  it(clauses.name('7252/5.3.1/token-opaque'), () => {
    const server = endpointWith();
    const tokens = ['', '00', '0000', '000000', '01', '0100'].map((text) =>
      Uint8Array.from(Buffer.from(text, 'hex')),
    );
    const exchanges = tokens.map(
      (token, id) => requestIn(server.receive('client', bytesOf('CON', GET, id, { token }), 0)).exchange,
    );
    const answered = exchanges.toReversed().map((one) => sent(server.respond(one, content(), 0))[0]?.token);
    expect(answered).toEqual(tokens.toReversed());
  });

  it(clauses.name('7252/5.3.2/same-source'), () => {
    const client = endpointWith();
    const { message } = ask(client);
    const { id, token } = message;
    for (const response of [
      bytesOf('ACK', CONTENT, id, { token }),
      bytesOf('NON', CONTENT, 7, { token }),
      bytesOf('CON', CONTENT, 8, { token }),
    ]) {
      expect(client.receive('elsewhere', response, 10).events).toEqual([]);
    }
    const right = client.receive('server', bytesOf('ACK', CONTENT, id, { token }), 20);
    expect(eventsOf(right, 'response')).toHaveLength(1);
  });

  it(clauses.name('7252/5.3.2/piggybacked-match'), () => {
    const client = endpointWith();
    const { message } = ask(client);
    const { id, token } = message;
    const other = Uint8Array.from(token, (byte) => byte ^ 1);
    for (const response of [
      bytesOf('ACK', CONTENT, id ^ 1, { token }),
      bytesOf('ACK', CONTENT, id, { token: other }),
      bytesOf('ACK', CONTENT, id, { token: NO_BYTES }),
      bytesOf('ACK', CONTENT, id, { token: token.subarray(0, -1) }),
    ]) {
      expect(client.receive('server', response, 10), hex(response)).toMatchObject(NOTHING);
    }
    const right = client.receive('server', bytesOf('ACK', CONTENT, id, { token }), 20);
    expect(eventsOf(right, 'response')).toHaveLength(1);
  });

  it(clauses.name('7252/5.3.2/separate-match'), () => {
    for (const type of ['CON', 'NON'] as const) {
      const client = endpointWith();
      const { handle, message } = ask(client);
      const { id, token } = message;
      const other = Uint8Array.from(token, (byte) => byte ^ 1);
      expect(client.receive('server', bytesOf(type, CONTENT, id, { token: other }), 10).events).toEqual([]);
      const right = client.receive('server', bytesOf(type, CONTENT, id ^ 0x55, { token }), 20);
      expect(eventsOf(right, 'response')).toMatchObject([{ handle }]);
    }
  });

  it(clauses.name('7252/5.4/undefined-option'), () => {
    const only = {
      request: [
        PATH,
        stringOption(OPTION.uriQuery, 'q'),
        uintOption(OPTION.accept, 0),
        { number: OPTION.ifMatch, value: NO_BYTES },
      ],
      response: [stringOption(OPTION.locationPath, 'x'), uintOption(OPTION.maxAge, 1)],
    };
    for (const option of only.request) {
      const client = endpointWith();
      const { message } = ask(client);
      const response = bytesOf('CON', CONTENT, 7, { token: message.token, options: [option] });
      const step = client.receive('server', response, 10);
      expect(eventsOf(step, 'response')).toEqual([]);
      expect(summary(step)).toEqual(['RST 0.00']);
    }
    for (const option of only.response) {
      const step = endpointWith().receive('client', bytesOf('CON', GET, 1, { options: [option] }), 0);
      expect(eventsOf(step, 'request')).toHaveLength(1);
    }
  });

  it(clauses.name('7252/5.4.1/elective'), () => {
    const server = endpointWith();
    const options = [PATH, ELECTIVE];
    for (const type of ['CON', 'NON'] as const) {
      const asked = server.receive('client', bytesOf(type, GET, type === 'CON' ? 1 : 2, { options }), 0);
      expect(asked.datagrams).toEqual([]);
      expect(eventsOf(asked, 'request')).toHaveLength(1);
    }
    const client = endpointWith();
    const { handle, message } = ask(client);
    const { id, token } = message;
    const step = client.receive('server', bytesOf('ACK', CONTENT, id, { token, options: [ELECTIVE] }), 10);
    expect(eventsOf(step, 'response')).toMatchObject([{ handle }]);
  });

  it(clauses.name('7252/5.4.1/critical-request'), () => {
    for (const method of [GET, POST, PUT, DELETE]) {
      const step = endpointWith().receive(
        'client',
        bytesOf('CON', method, 1, { options: [PATH, CRITICAL] }),
        0,
      );
      expect(summary(step)).toEqual(['ACK 4.02']);
      expect(step.events).toEqual([]);
    }
  });

  it(clauses.name('7252/5.4.1/critical-response'), () => {
    for (const type of ['ACK', 'CON'] as const) {
      const client = endpointWith();
      const { handle, message } = ask(client);
      const { id, token } = message;
      const response = bytesOf(type, CONTENT, id, { token, options: [CRITICAL] });
      const step = client.receive('server', response, 10);
      expect(eventsOf(step, 'response'), type).toEqual([]);
      expect(summary(step), type).toEqual(type === 'ACK' ? [] : ['RST 0.00']);
      const { events } = passing(client, step, 700_000);
      const ends = [...step.events, ...events].filter((event) => event.kind === 'failed');
      expect(ends, type).toMatchObject([{ handle }]);
    }
  });

  it(clauses.name('7252/5.4.1/critical-non'), () => {
    const server = endpointWith();
    const request = server.receive('client', bytesOf('NON', GET, 1, { options: [CRITICAL] }), 0);
    expect(request.events).toEqual([]);
    for (const { type, id } of sent(request)) expect([type, id]).toEqual(['RST', 1]);
    const client = endpointWith();
    const { message } = ask(client);
    const response = bytesOf('NON', CONTENT, 7, { token: message.token, options: [CRITICAL] });
    const step = client.receive('server', response, 10);
    expect(eventsOf(step, 'response')).toEqual([]);
    for (const { type, id } of sent(step)) expect([type, id]).toEqual(['RST', 7]);
  });

  it(clauses.name('7252/5.4.3/length'), () => {
    const of = (number: number, length: number): Option => ({
      number,
      value: new Uint8Array(length).fill(0x61),
    });
    const critical = [
      of(OPTION.uriHost, 0),
      of(OPTION.uriHost, 256),
      of(OPTION.uriPort, 3),
      of(OPTION.uriPath, 256),
      of(OPTION.uriQuery, 256),
      of(OPTION.accept, 3),
      of(OPTION.ifMatch, 9),
      of(OPTION.ifNoneMatch, 1),
      of(OPTION.block1, 4),
      of(OPTION.block2, 4),
    ];
    const understood = [OPTION.ifMatch, OPTION.ifNoneMatch];
    for (const option of critical) {
      const step = endpointWith({ understood }).receive(
        'client',
        bytesOf('CON', PUT, 1, { options: [option] }),
        0,
      );
      expect(summary(step), `option ${option.number}`).toEqual(['ACK 4.02']);
    }
    const elective = [
      of(OPTION.eTag, 0),
      of(OPTION.eTag, 9),
      of(OPTION.contentFormat, 3),
      of(OPTION.size1, 5),
    ];
    for (const option of elective) {
      const step = endpointWith().receive('client', bytesOf('CON', PUT, 1, { options: [option] }), 0);
      expect(requestIn(step).request.options, `option ${option.number}`).toEqual([]);
    }
  });

  it(clauses.name('7252/5.4.4/default'), () => {
    // An observed state grows too old after Max-Age; the client asks again 5 to 15 seconds later (RFC 7641, 3.3.1).
    const client = endpointWith();
    const begun = client.observe('server', get, wanted, 0);
    leave(client, begun.step, 0);
    const { id, token } = sent(begun.step)[0]!;
    const options = [uintOption(OPTION.observe, 1)];
    const step = client.receive('server', bytesOf('ACK', CONTENT, id, { token, options }), 0);
    const [renewal] = passing(client, step, 120_000).sent;
    expect(renewal?.at).toBeGreaterThanOrEqual(65_000);
    expect(renewal?.at).toBeLessThanOrEqual(75_000);
  });

  /** Both ways in blocks: what an endpoint adds of its own to the messages of an application. */
  function twoWay(size: BlockSize): Plugtest {
    const timing = rfc7252Timing({ blockSize: size });
    const test = new Plugtest(545, { client: { timing: () => timing } });
    test.resources.handlers.set('/tagged', () => content(large('tagged'), [uintOption(OPTION.eTag, 77)]));
    const response = test.exchange(POST, { uri: '/large-post', payload: large('question') });
    expect(response.payload).toEqual(large('answer'));
    expect(test.exchange(GET, { uri: '/tagged' }).payload).toEqual(large('tagged'));
    return test;
  }

  const REPEATABLE: readonly number[] = [
    OPTION.ifMatch,
    OPTION.locationPath,
    OPTION.uriPath,
    OPTION.uriQuery,
    OPTION.locationQuery,
  ];

  it(clauses.name('7252/5.4.5/once-sent'), () => {
    const { messages } = twoWay(128).wire;
    expect(messages.length).toBeGreaterThan(40);
    for (const { options } of messages) {
      const single = options.map(({ number }) => number).filter((number) => !REPEATABLE.includes(number));
      expect(new Set(single).size, single.join(' ')).toBe(single.length);
    }
  });

  it(clauses.name('7252/5.4.5/once-received'), () => {
    const critical = [
      stringOption(OPTION.uriHost, 'a'),
      uintOption(OPTION.uriPort, 1),
      uintOption(OPTION.accept, 0),
      blockOption(OPTION.block2, { num: 0, more: false, size: 64 }),
    ];
    for (const option of critical) {
      const step = endpointWith().receive('client', bytesOf('CON', GET, 1, { options: [option, option] }), 0);
      expect(summary(step), `option ${option.number}`).toEqual(['ACK 4.02']);
    }
    const options = [uintOption(OPTION.contentFormat, 1), uintOption(OPTION.contentFormat, 2)];
    const step = endpointWith().receive('client', bytesOf('CON', PUT, 1, { options }), 0);
    expect(requestIn(step).request.options.map(plain)).toEqual(options.slice(0, 1));
  });

  it(clauses.name('7252/5.5.2/diagnostic'), () => {
    const requests = [
      bytesOf('CON', GET, 1, { options: [CRITICAL] }),
      bytesOf('CON', 31, 1),
      bytesOf('CON', PUT, 1, { options: [uintOption(OPTION.block1, 7)] }),
      bytesOf('CON', GET, 1, { options: [stringOption(OPTION.proxyUri, 'coap://elsewhere/')] }),
    ];
    for (const request of requests) {
      const [error] = sent(endpointWith().receive('client', request, 0));
      expect(error!.code >> 5).toBeGreaterThanOrEqual(4);
      expect(error!.options.some(({ number }) => number === OPTION.contentFormat)).toBe(false);
      expect(fromUtf8(error!.payload)).toBeDefined();
    }
  });

  it(clauses.name('7252/5.7.2/not-supported'), () => {
    const options = [stringOption(OPTION.uriHost, 'elsewhere'), stringOption(OPTION.proxyScheme, 'coap')];
    for (const type of ['CON', 'NON'] as const) {
      const step = endpointWith().receive('client', bytesOf(type, GET, 1, { options }), 0);
      expect(summary(step)).toEqual([`${type === 'CON' ? 'ACK' : 'NON'} 5.05`]);
      expect(step.events).toEqual([]);
    }
  });

  it(clauses.name('7252/5.8/method'), () => {
    for (const method of [8, 9, 20, 31]) {
      const step = endpointWith().receive('client', bytesOf('CON', method, 1, { options: [PATH] }), 0);
      expect(summary(step)).toEqual(['ACK 4.05']);
      expect(step.events).toEqual([]);
    }
  });

  it(clauses.name('7252/5.10.1/dots'), () => {
    const pathOf = (options: readonly Option[]): (string | undefined)[] =>
      options.filter(({ number }) => number === OPTION.uriPath).map(stringOf);
    for (const path of ['/a/../b', '/./b', '/a/..', '/%2e%2E/b', '/a/.%2e/b']) {
      // Where paths are made into options: Matrix's requests, and URIs.
      expect(plainCodec.encodeRequest({ method: 'GET', path, query: '' }), path).toMatchObject({ ok: false });
      const uri = parseCoapUri(`coap://192.0.2.1${path}`);
      expect(uri.ok && pathOf(uri.value.options).some((part) => part === '.' || part === '..')).toBe(false);
    }
    // And where they come out of them.
    for (const dots of ['.', '..']) {
      const request = { code: GET, options: [PATH, stringOption(OPTION.uriPath, dots)], payload: NO_BYTES };
      expect(plainCodec.decodeRequest(request)).toMatchObject({ ok: false, problem: { status: 400 } });
    }
  });

  it(clauses.name('7252/5.10.2/proxy-uri'), () => {
    const options = [stringOption(OPTION.proxyUri, 'coap://elsewhere/x')];
    const step = endpointWith().receive('client', bytesOf('CON', GET, 1, { options }), 0);
    expect(summary(step)).toEqual(['ACK 5.05']);
    expect(step.events).toEqual([]);
  });

  it(clauses.name('7252/5.10.2/proxy-uri-first'), () => {
    const options = [PATH, stringOption(OPTION.proxyUri, 'coap://elsewhere/x')];
    for (const more of [[], [stringOption(OPTION.uriHost, 'here')], [uintOption(OPTION.uriPort, 5683)]]) {
      const step = endpointWith().receive(
        'client',
        bytesOf('CON', GET, 1, { options: [...options, ...more] }),
        0,
      );
      expect(summary(step)).toEqual(['ACK 5.05']);
      expect(step.events).toEqual([]);
    }
  });

  it(clauses.name('7252/5.10.6/etag-opaque'), () => {
    // The second block belongs to another representation, however alike the tags look.
    const tags = ['00', '0000', '01', '0001', 'ff', 'c3', '61'].map((text) =>
      Uint8Array.from(Buffer.from(text, 'hex')),
    );
    for (const first of tags) {
      for (const second of tags) {
        const client = endpointWith();
        const { message } = ask(client);
        const block = (num: number, tag: Uint8Array, more: boolean) => ({
          options: [{ number: OPTION.eTag, value: tag }, blockOption(OPTION.block2, { num, more, size: 16 })],
          payload: new Uint8Array(16).fill(num),
        });
        const { id, token } = message;
        const next = client.receive(
          'server',
          bytesOf('ACK', CONTENT, id, { token, ...block(0, first, true) }),
          1,
        );
        const asked = sent(next)[0]!;
        const rest = { token: asked.token, ...block(1, second, false) };
        const last = client.receive('server', bytesOf('ACK', CONTENT, asked.id, rest), 2);
        expect(eventsOf(last, 'response'), `${hex(first)} ${hex(second)}`).toHaveLength(
          first === second ? 1 : 0,
        );
      }
    }
  });

  it(clauses.name('7252/5.10.6.1/etag-once'), () => {
    const { messages } = twoWay(256).wire;
    const tags = messages.map(({ options }) => options.filter(({ number }) => number === OPTION.eTag).length);
    expect(Math.max(...tags)).toBe(1);
  });

  it(clauses.name('7252/5.10.7/reserved-location'), () => {
    const outcome = (options: readonly Option[]): CoapStep => {
      const client = endpointWith();
      const { message } = ask(client, 0, {}, { ...get, code: POST });
      client.receive('server', bytesOf('ACK', 0, message.id), 1);
      return client.receive('server', bytesOf('CON', CREATED, 9, { token: message.token, options }), 2);
    };
    const location = [stringOption(OPTION.locationPath, 'here'), stringOption(OPTION.locationQuery, 'a=b')];
    expect(summary(outcome(location))).toEqual(['ACK 0.00']);
    for (const reserved of [128, 132, 136, 140]) {
      const unknown = stringOption(reserved, 'x');
      for (const known of location) {
        const step = outcome([known, unknown]);
        expect(summary(step), `${reserved} beside ${known.number}`).toEqual(['RST 0.00']);
        expect(step.events).toMatchObject([{ kind: 'failed', reason: 'bad_response' }]);
      }
      // Alone it is an option like any other that is elective.
      expect(summary(outcome([unknown]))).toEqual(['ACK 0.00']);
    }
  });

  it(clauses.name('7252/5.10.8/condition'), () => {
    const conditions: Option[] = [
      { number: OPTION.ifMatch, value: Uint8Array.of(1) },
      { number: OPTION.ifMatch, value: NO_BYTES },
      { number: OPTION.ifNoneMatch, value: NO_BYTES },
    ];
    for (const condition of conditions) {
      const request = bytesOf('CON', PUT, 1, { options: [PATH, condition] });
      expect(endpointWith().receive('client', request, 0).events).toEqual([]);
      const server = endpointWith({ understood: [OPTION.ifMatch, OPTION.ifNoneMatch] });
      expect(requestIn(server.receive('client', request, 0)).request.options.map(plain)).toContainEqual(
        condition,
      );
    }
  });

  it('has a test for each clause of the list', () => {
    expect(clauses.missing).toEqual([]);
  });
});
