import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { concat, fromUtf8, hex, utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { codeLabel } from '../../src/coap/codes.ts';
import { DEFAULT_LIMITS as COAP_LIMITS } from '../../src/coap/core.ts';
import { decode, encode, type Message } from '../../src/coap/message.ts';
import { OPTION, type Option, stringOption, uintOption } from '../../src/coap/options.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import type { ExchangeCounters } from '../../src/exchange/socket_options.ts';
import type { JsonValue } from '../../src/matrix/json.ts';
import { MatrixUser } from '../../src/mesh/matrix_user.ts';
import { DEFAULT_LIMITS as PIPE_LIMITS } from '../../src/pipe/limits.ts';
import { completeConfig, type PartialConfig } from '../../src/server/config.ts';
import { openServer, type RunningServer } from '../../src/server/open.ts';
import { freePort } from '../free_port.ts';
import { rawHttp, Speaker, Stranger, Wire } from './attacker.ts';

/*
 *   alice ──HTTP── victim.test ══ pipe over UDP, through the attacker's hands ══ friend.test ──HTTP── bob
 *                   │      │
 *               strangers' UDP and TCP
 *
 * Complete servers with real sockets. After every attack alice and bob must still talk on the session that they had,
 * and at the end everything that was said must have arrived once, in order.
 */

const SEED = 20261122;
/** A server that is called by name and is not who answers there. */
const IMPOSTOR = 'impostor.test';
const LOGIN = '/_matrix/client/v3/login';

let folder: string;
let wire: Wire;
let victim: RunningServer;
let friend: RunningServer;
let impostor: Stranger;
let alice: MatrixUser;
let bob: MatrixUser;
let aliceToken: string;
let room: string;
const said: string[] = [];
/** To the impostor: open until they time out. */
let openInvitations = 0;

function start(name: string, config: PartialConfig): Promise<RunningServer> {
  const common: PartialConfig = {
    server_name: name,
    data: join(folder, name),
    log: { level: 'silent' },
    registration: 'open',
    http: { listen: [{ host: '127.0.0.1', port: 0 }] },
  };
  return openServer(completeConfig({ ...common, ...config }, folder));
}

const peer = (server_name: string, address: string, trust: 'tofu' | { readonly pinned: string }) => ({
  server_name,
  address: `ravine://${address}`,
  trust,
});

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ravine-bad-input-'));
  wire = await Wire.open();
  const victimPort = await freePort('udp');
  friend = await start('friend.test', {
    coap: { port: 0, plain: 'off' },
    federation: { peers: [peer('victim.test', wire.rightEnd, 'tofu')] },
  });
  impostor = await Stranger.open(`127.0.0.1:${victimPort}`);
  victim = await start('victim.test', {
    coap: { port: victimPort },
    federation: {
      peers: [
        peer('friend.test', wire.leftEnd, { pinned: friend.homeserver.fingerprint }),
        peer(IMPOSTOR, impostor.address, 'tofu'),
      ],
    },
  });
  wire.lead('left', victim.udp!);
  wire.lead('right', friend.udp!);
  alice = await MatrixUser.register(victim.homeserver.app, 'alice');
  bob = await MatrixUser.register(friend.homeserver.app, 'bob');
  const login = await post(LOGIN, {
    type: 'm.login.password',
    identifier: { type: 'm.id.user', user: 'alice' },
    password: 'password of alice',
  });
  expect(login.status).toBe(200);
  aliceToken = ((await login.json()) as { access_token: string }).access_token;
  room = await alice.createRoom({ preset: 'private_chat', invite: [bob.id] });
  await bob.syncUntil((user) => user.invitedTo.has(room));
  await bob.join(room);
  await talk('before');
});

/** After an attack: both doors answer, the old session carries messages, and nothing has piled up. */
async function stillWell(): Promise<void> {
  await talk('after');
  expect((await fetch(url('/_matrix/client/versions'))).status).toBe(200);
  expect(friend.homeserver.counters().exchange).toMatchObject({ restarts: 0, unreachable: 0 });
  const { held } = counters();
  expect(held.pipe.sessions).toBe(1);
  expect(held.pipe.halfOpen).toBeLessThanOrEqual(PIPE_LIMITS.halfOpen);
  expect(held.pipe.connections).toBeLessThanOrEqual(PIPE_LIMITS.halfOpen + PIPE_LIMITS.undecided + 8);
  for (const { peers, uploads, assembling, replyBytes } of [held.inPipe, held.plain]) {
    expect(peers).toBeLessThanOrEqual(COAP_LIMITS.peers);
    expect(replyBytes).toBeLessThanOrEqual(COAP_LIMITS.replyBytes);
    expect({ uploads, assembling }).toEqual({ uploads: 0, assembling: 0 });
  }
  // The last transaction may still be on its way to its answer.
  await vi.waitFor(() => {
    expect(counters().held.serving).toBe(0);
    expect(counters().held.requests).toBeLessThanOrEqual(openInvitations);
  });
  expect(held.pacer).toBe(0);
}

afterAll(async () => {
  await Promise.all([victim, friend].map((server) => server.stop()));
  impostor.close();
  wire.close();
  rmSync(folder, { recursive: true, force: true });
});

const counters = (): ExchangeCounters => victim.homeserver.counters().exchange!;
const url = (path: string): string => `http://127.0.0.1:${victim.http[0]!.port}${path}`;
const post = (path: string, body: unknown): Promise<Response> =>
  fetch(url(path), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });

/** Alice says something and Bob answers; both are seen. */
async function talk(when: string): Promise<void> {
  await say(alice, `${when} ${said.length}`);
  await bob.syncUntil((user) => user.messages(room).length >= said.length);
  await say(bob, `${when} ${said.length}`);
  await alice.syncUntil((user) => user.messages(room).length >= said.length);
}

async function say(user: MatrixUser, body: string): Promise<void> {
  said.push(body);
  await user.say(room, body);
}

async function stranger(): Promise<Stranger> {
  const opened = await Stranger.open(victim.udp!);
  onTestFinished(() => opened.close());
  return opened;
}

/** The difference that `attack` makes to the counters, as far as they count what was dropped or refused. */
async function effects(attack: () => Promise<unknown>): Promise<Record<string, number>> {
  const flat = (): Record<string, number> => {
    const { ignored, plainRefused, established, refused, malformedIn, plain, pipe } = counters();
    const { malformed, unauthenticated, replayed, throttled } = pipe;
    const own = { malformed: plain.malformed, ignored: plain.ignored };
    return {
      ...{ ignored, plainRefused, established, refused, malformedIn },
      ...{ pipeMalformed: malformed, unauthenticated, replayed, throttled },
      ...{ coapMalformed: own.malformed, coapIgnored: own.ignored },
    };
  };
  const before = flat();
  await attack();
  return Object.fromEntries(Object.entries(flat()).map(([name, count]) => [name, count - before[name]!]));
}

async function secondsOf(attack: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await attack();
  return (performance.now() - startedAt) / 1_000;
}

/** How many hints may be sent in that time, after earlier tests had their own. */
const hintsIn = (seconds: number): number =>
  PIPE_LIMITS.hintsBurst + Math.ceil(PIPE_LIMITS.hintsPerSecond * seconds);

const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));

describe('datagrams', () => {
  afterEach(stillWell);

  it('of every first byte, cut, random and oversized, are dropped, or reset where RFC 7252 says so', async () => {
    const random = seededRandom(SEED);
    const from = await stranger();
    const datagrams: Uint8Array[] = [new Uint8Array(0)];
    for (let first = 0; first < 256; first++) {
      for (const length of [1, 2, 3, 5, 11, 40, 300]) {
        const bytes = random.bytes(length);
        bytes[0] = first;
        datagrams.push(bytes);
      }
    }
    for (const first of [0x00, 0x40, 0x83, 0x90, 0xa0, 0xb0, 0xe3, 0xf3, 0xff])
      datagrams.push(Uint8Array.of(first, ...random.bytes(60_000)));
    let counts: Record<string, number> = {};
    const saying = say(alice, 'under random datagrams');
    const answers: Uint8Array[] = [];
    const seconds = await secondsOf(async () => {
      counts = await effects(async () => answers.push(...(await from.sendAll(datagrams))));
    });
    await saying;
    const [coap, records] = [[] as string[], [] as Uint8Array[]];
    for (const bytes of answers) {
      const decoded = bytes[0]! < 0x80 ? decode(bytes) : undefined;
      if (decoded === undefined) records.push(bytes);
      else coap.push(decoded.ok ? `${decoded.value.type} ${codeLabel(decoded.value.code)}` : 'malformed');
    }
    // Random requests are answered, other confirmable nonsense is reset.
    for (const label of coap) expect(label).toMatch(/^RST 0\.00$|^(ACK|NON) [45]\.\d\d$/);
    expect(coap).toContain('RST 0.00');
    // Hints about connections that nobody knows.
    for (const bytes of records) expect(bytes[0]).toBe(0xf3);
    expect(records.length).toBeLessThanOrEqual(hintsIn(seconds));
    expect(counts).toMatchObject({ established: 0, refused: 0, ignored: 64 * 7 + 2 });
    expect(counts.pipeMalformed).toBeGreaterThan(128 * 6);
    expect(counts.coapMalformed).toBeGreaterThan(100);
  });
});

describe('plain CoAP messages', () => {
  afterAll(stillWell);

  it.each([
    ['three bytes', '40 01 00', []],
    ['version 0', '00 01 00 01', []],
    ['version 2', '80 01 00 01', []],
    ['a token length of 9', '49 01 00 01 00 00 00 00 00 00 00 00 00', ['70 00 00 01']],
    ['a token that is cut off', '44 01 00 02 00', ['70 00 00 02']],
    ['an empty message with more behind it', '40 00 00 03 00', ['70 00 00 03']],
    ['a payload marker without payload', '40 01 00 04 ff', ['70 00 00 04']],
    ['an option delta of 15', '40 01 00 05 f0', ['70 00 00 05']],
    ['an option length of 15', '40 01 00 06 0f', ['70 00 00 06']],
    ['an option that is cut off', '40 01 00 07 b4 61', ['70 00 00 07']],
    ['an option number over 65535', '40 01 00 08 e0 ff f0 e0 ff f0', ['70 00 00 08']],
    ['the same, non-confirmable', '50 01 00 09 f0', []],
    ['code 1.00', '40 20 00 0a', ['70 00 00 0a']],
    ['code 7.31', '40 ff 00 0b', ['70 00 00 0b']],
    ['an answer that nobody waits for', '40 45 00 0c', ['70 00 00 0c']],
    ['the same, non-confirmable', '50 45 00 0d', []],
    ['an acknowledgement of nothing', '60 00 00 0e', []],
    ['a reset of nothing', '70 00 00 0f', []],
    ['method 0.31', '40 1f 00 10', ['60 85 00 10']],
    ['Proxy-Uri', '40 01 00 11 d1 16 61', ['60 a5 00 11']],
    ['an unknown critical option', '40 01 00 12 d0 fc', ['60 82 00 12 ff 6f 70 74 69 6f 6e 20 32 36 35']],
    ['the same, non-confirmable', '50 01 00 13 d0 fc', []],
    ['Accept twice', '40 01 00 14 d1 04 32 01 3c', ['60 82 00 14 ff 6f 70 74 69 6f 6e 20 31 37']],
    ['If-None-Match', '40 01 00 15 50', ['60 82 00 15 ff 6f 70 74 69 6f 6e 20 35']],
    ['Block1 with the reserved size', '40 02 00 16 d1 0e 0f', ['60 80 00 16']],
    ['the sixth block of nothing', '40 02 00 17 d1 0e 50', ['60 88 00 17']],
    ['Block2 in the middle of nothing', '40 02 00 18 d1 0a 50', ['60 88 00 18']],
    ['Size1 of 16 MiB', '40 02 00 19 d1 0e 08 d4 14 01 00 00 00', ['60 8d 00 19 d3 2f 80 00 00']],
  ])('%s: %s', async (_, datagram, expected) => {
    const from = await stranger();
    expect((await from.sendAll([bytesOf(datagram)])).map(hex)).toEqual(
      expected.map((text) => hex(bytesOf(text))),
    );
  });
});

describe('plain CoAP requests that are well-formed and wrong', () => {
  afterAll(stillWell);

  const segments = (...names: string[]): Option[] => names.map((name) => stringOption(OPTION.uriPath, name));
  const login = segments('_matrix', 'client', 'v3', 'login');
  const whoami = segments('_matrix', 'client', 'v3', 'account', 'whoami');
  const token = (value: string): Option => stringOption(256, value);
  const [JSON_TEXT, CBOR] = [50, 60].map((format) => uintOption(OPTION.contentFormat, format)) as [
    Option,
    Option,
  ];
  const deep = (levels: number, open: number): Uint8Array => new Uint8Array(levels).fill(open);
  let ids = 0x1000;

  it.each<[string, Partial<Message>, string, string]>([
    ['a path that is not there', { options: segments('nothing', 'here') }, '4.04', 'M_UNRECOGNIZED'],
    ['a method that is not taken', { code: 4, options: login }, '4.05', 'M_UNRECOGNIZED'],
    ['FETCH', { code: 5, options: login }, '4.05', 'M_UNRECOGNIZED'],
    ['a segment of two dots', { options: segments('_matrix', '..', 'client') }, '4.00', 'M_UNRECOGNIZED'],
    [
      'a slash inside a segment',
      { options: segments('_matrix/client', 'versions') },
      '4.04',
      'M_UNRECOGNIZED',
    ],
    [
      'a segment that is not UTF-8',
      { options: [{ number: 11, value: Uint8Array.of(0xff) }] },
      '4.00',
      'M_UNRECOGNIZED',
    ],
    ['a zero byte in a segment', { options: segments('_matrix', '\0') }, '4.04', 'M_UNRECOGNIZED'],
    [
      'an Accept that nobody knows',
      { options: [...login, uintOption(OPTION.accept, 9999)] },
      '4.06',
      'M_UNRECOGNIZED',
    ],
    [
      'a Content-Format that nobody knows',
      { code: 2, options: [...login, uintOption(12, 9999)], payload: utf8('x') },
      '4.15',
      'M_UNRECOGNIZED',
    ],
    [
      'a picture',
      { code: 2, options: [...login, uintOption(12, 23)], payload: utf8('x') },
      '4.15',
      'M_NOT_JSON',
    ],
    [
      'JSON that is cut off',
      { code: 2, options: [...login, JSON_TEXT], payload: utf8('{"type":') },
      '4.00',
      'M_NOT_JSON',
    ],
    [
      'JSON that is not UTF-8',
      { code: 2, options: [...login, JSON_TEXT], payload: Uint8Array.of(0x22, 0xff, 0x22) },
      '4.00',
      'M_NOT_JSON',
    ],
    [
      'JSON of 1,000 levels',
      { code: 2, options: [...login, JSON_TEXT], payload: concat(deep(1000, 0x5b), deep(1000, 0x5d)) },
      '4.00',
      'M_NOT_JSON',
    ],
    [
      'CBOR that is cut off',
      { code: 2, options: [...login, CBOR], payload: bytesOf('a1 64 74') },
      '4.00',
      'M_NOT_JSON',
    ],
    [
      'CBOR with a key twice',
      { code: 2, options: [...login, CBOR], payload: bytesOf('a2 61 61 01 61 61 02') },
      '4.00',
      'M_NOT_JSON',
    ],
    [
      'CBOR with a tag',
      { code: 2, options: [...login, CBOR], payload: bytesOf('c1 00') },
      '4.00',
      'M_NOT_JSON',
    ],
    [
      'CBOR with more behind it',
      { code: 2, options: [...login, CBOR], payload: bytesOf('a0 00') },
      '4.00',
      'M_NOT_JSON',
    ],
    [
      'CBOR of 1,000 levels',
      { code: 2, options: [...login, CBOR], payload: deep(1000, 0x81) },
      '4.00',
      'M_NOT_JSON',
    ],
    [
      'CBOR of a huge array',
      { code: 2, options: [...login, CBOR], payload: bytesOf('9a ff ff ff ff') },
      '4.00',
      'M_NOT_JSON',
    ],
    ['no body', { code: 2, options: login }, '4.00', 'M_NOT_JSON'],
    [
      'a body of the wrong type',
      { code: 2, options: [...login, CBOR], payload: encodeJson([1]) },
      '4.00',
      'M_BAD_JSON',
    ],
    [
      'a field of the wrong type',
      { code: 2, options: [...login, CBOR], payload: encodeJson({ type: 7 }) },
      '4.00',
      'M_BAD_JSON',
    ],
    ['no token', { options: whoami }, '4.01', 'M_MISSING_TOKEN'],
    ['a wrong token', { options: [...whoami, token('nonsense')] }, '4.01', 'M_UNKNOWN_TOKEN'],
    ['a token with a line break', { options: [...whoami, token('a\r\nx: y')] }, '4.01', 'M_MISSING_TOKEN'],
    [
      'a server speaking for itself',
      {
        code: 3,
        options: [...segments('_matrix', 'federation', 'v1', 'send', '1'), CBOR],
        payload: encodeJson({ origin: 'friend.test', origin_server_ts: 1, pdus: [] }),
      },
      '4.01',
      'M_UNAUTHORIZED',
    ],
  ])('%s', async (_, message, expected, errcode) => {
    const from = await stranger();
    const answer = await from.ask({ id: ids++, ...message });
    expect(codeLabel(answer.code)).toBe(expected);
    expect((bodyOf(answer) as { errcode: string }).errcode).toBe(errcode);
  });

  it('gives the right one its answer', async () => {
    const from = await stranger();
    const answer = await from.ask({ id: ids++, options: [...whoami, token(aliceToken)] });
    expect(bodyOf(answer)).toMatchObject({ user_id: '@alice:victim.test' });
  });

  function bodyOf({ options, payload }: Message): JsonValue {
    const format = options.find(({ number }) => number === OPTION.contentFormat)?.value[0];
    if (format === 50) return JSON.parse(fromUtf8(payload)!) as JsonValue;
    const decoded = decodeJson(payload);
    if (!decoded.ok) throw new Error(decoded.problem);
    return decoded.value;
  }
});

describe('handshakes', () => {
  afterEach(stillWell);

  let speakers = SEED;
  /** An XX1 for the victim with a key of its own: 32 bytes are a public key, whatever they are. */
  const first = (ephemeral: Uint8Array, id = 5): Uint8Array =>
    concat(Uint8Array.of(0x90, 0x11, id), ephemeral, new Uint8Array(60));

  it('XX1 with garbage gets an XX2 of at most three times its length, and what is short or of another version nothing', async () => {
    const random = seededRandom(SEED);
    const from = await stranger();
    const xx1 = first(random.bytes(32));
    const [answer, ...more] = await from.sendAll([xx1]);
    expect(answer![0]).toBe(0xa0);
    expect(answer!.length).toBeLessThanOrEqual(3 * xx1.length);
    expect(more).toEqual([]);
    const other = xx1.slice();
    other[1] = 0x21;
    const flagged = xx1.slice();
    flagged[0] = 0x93;
    expect(await from.sendAll([xx1.subarray(0, 34), xx1.subarray(0, 60), other, flagged])).toEqual([]);
    // The same again gets the same again; a low-order key is answered like any other.
    expect((await from.sendAll([xx1])).map(hex)).toEqual([hex(answer!)]);
    expect((await from.sendAll([first(new Uint8Array(32))])).length).toBe(1);
    // XX3 without keys to it.
    const id = answer!.subarray(1, 2);
    const forged = concat(Uint8Array.of(0xb0), id, random.bytes(220));
    const xx3 = await effects(() => from.sendAll([forged, concat(Uint8Array.of(0xb0, 0x7f), forged)]));
    expect(xx3).toMatchObject({ established: 0, refused: 0 });
  });

  it.each([
    // Nobody answers there, so that the key API of that server confirms nothing.
    ['an unknown server', '127.0.0.1:1', 'the key API does not confirm the signing key'],
    ['a known server under another key', 'friend.test', 'the signing key is not the pinned one'],
    ['the server itself', 'victim.test', 'the identity claims to be this server'],
    ['nobody', '!', 'the identity has a malformed name'],
  ])(
    'an identity of %s is refused with a reason, and nothing that it sends is acted on',
    async (_, name, reason) => {
      const from = await stranger();
      const speaker = new Speaker(from, name, ++speakers);
      const request = concat(
        encode({
          type: 'CON',
          code: 1,
          id: 1,
          token: Uint8Array.of(1, 2),
          options: [],
          payload: utf8('\0\x65/path'),
        }),
      );
      const saying = say(alice, `while ${name} calls`);
      const counts = await effects(async () => {
        expect(await speaker.call('victim.test', request, 'refused')).toMatchObject({ by: 'peer', reason });
      });
      await saying;
      expect(counts).toMatchObject({ established: 0, refused: 1, malformedIn: 0 });
      expect(speaker.events.map(({ kind }) => kind)).not.toContain('payload');
    },
  );

  it('an answer under another name than was called is not spoken to', async () => {
    const speaker = new Speaker(impostor, 'other.test', ++speakers);
    speaker.listen(() => undefined);
    const counts = await effects(async () => {
      openInvitations++;
      void alice.createRoom({ preset: 'private_chat', invite: [`@x:${IMPOSTOR}`] }).catch(() => undefined);
      await expect.poll(() => counters().refused).toBeGreaterThan(0);
      await expect.poll(() => speaker.events.length + impostorHeard()).toBeGreaterThan(0);
    });
    expect(counts).toMatchObject({ established: 0 });
    expect(speaker.events.filter(({ kind }) => kind !== 'identity')).toEqual([]);
  });

  const impostorHeard = (): number => counters().pipe.unauthenticated + counters().refused;

  it('5,000 of them from one socket are answered at a bounded rate and push nothing out', async () => {
    const random = seededRandom(SEED);
    const from = await stranger();
    const flood = Array.from({ length: 5_000 }, () => first(random.bytes(32)));
    const answers: Uint8Array[] = [];
    const saying = say(alice, 'under the flood');
    let counts: Record<string, number> = {};
    const seconds = await secondsOf(async () => {
      counts = await effects(async () => answers.push(...(await from.sendAll(flood))));
    });
    await saying;
    expect(answers.length).toBeGreaterThan(0);
    expect(answers.length).toBeLessThanOrEqual(
      PIPE_LIMITS.answersBurst + PIPE_LIMITS.answersPerSecond * seconds + 1,
    );
    expect(counts).toMatchObject({ established: 0, refused: 0, throttled: flood.length - answers.length });
    expect(counters().held.pipe.halfOpen).toBeLessThanOrEqual(PIPE_LIMITS.halfOpen);
  });
});

describe('what was captured on the wire', () => {
  afterEach(stillWell);

  it('replayed from a stranger, it is no use: no record is taken twice, nobody gets more than he sent', async () => {
    const from = await stranger();
    const toVictim = wire.captured.filter(({ to }) => to === 'left').map(({ bytes }) => bytes);
    const data = toVictim.filter((bytes) => bytes[0] === 0x83);
    const handshakes = toVictim.filter((bytes) => bytes[0] !== 0x83);
    expect(data.length).toBeGreaterThan(10);
    expect(handshakes.length).toBeGreaterThan(0);
    const answers: Uint8Array[] = [];
    const saying = say(alice, 'under replays');
    const counts = await effects(async () => answers.push(...(await from.sendAll([...data, ...handshakes]))));
    await saying;
    expect(counts).toMatchObject({ replayed: data.length, established: 0, refused: 0 });
    for (const bytes of answers) expect(bytes[0]).toBe(0xa0);
  });

  it('replayed and changed under the other side’s address, both ways', async () => {
    const random = seededRandom(SEED);
    const from = await stranger();
    const before = counters().pipe.replayed + counters().pipe.unauthenticated;
    const captured = [...wire.captured];
    const saying = say(alice, 'under replays from the right address');
    for (const { to, bytes } of captured) {
      wire.inject(to, bytes);
      const changed = bytes.slice();
      changed[random.integer(changed.length)]! ^= 1 + random.integer(255);
      wire.inject(to, changed);
      wire.inject(to, bytes.subarray(0, random.integer(bytes.length)));
      await from.answers();
    }
    await saying;
    expect(counters().pipe.replayed + counters().pipe.unauthenticated - before).toBeGreaterThan(
      captured.length / 4,
    );
  });

  it('records and hints on connections that are not known, or not to this sender, change nothing', async () => {
    const random = seededRandom(SEED);
    const from = await stranger();
    const records: Uint8Array[] = [];
    for (let id = 0; id < 128; id++) {
      for (const kind of [0x83, 0xe3])
        records.push(concat(Uint8Array.of(kind, id), new Uint8Array(7), random.bytes(40)));
      records.push(
        concat(Uint8Array.of(0xf3, id), new Uint8Array(8)),
        concat(Uint8Array.of(0xa0, id), random.bytes(250)),
        concat(Uint8Array.of(0xb0, id), random.bytes(220)),
      );
    }
    const answers: Uint8Array[] = [];
    let counts: Record<string, number> = {};
    const seconds = await secondsOf(async () => {
      counts = await effects(async () => answers.push(...(await from.sendAll(records))));
    });
    expect(counts).toMatchObject({ established: 0, refused: 0 });
    for (const bytes of answers) expect(bytes[0]).toBe(0xf3);
    expect(answers.length).toBeLessThanOrEqual(hintsIn(seconds));
    expect(answers.length).toBeGreaterThan(0);
  });
});

describe('HTTP', () => {
  afterAll(stillWell);

  const request = (head: string, body: string | Uint8Array = ''): Promise<string> =>
    rawHttp(
      victim.http[0]!.port,
      `${head}\r\nHost: x\r\nConnection: close\r\n${body.length > 0 || head.startsWith('P') ? `Content-Length: ${body.length}\r\n` : ''}\r\n`,
      body,
    );
  const LOG_IN = `POST ${LOGIN} HTTP/1.1`;
  const WHO = 'GET /_matrix/client/v3/account/whoami';

  it.each<[string, string, string | Uint8Array, number, string]>([
    ['no JSON', LOG_IN, '{"type":', 400, 'M_NOT_JSON'],
    ['JSON that is not UTF-8', LOG_IN, Uint8Array.of(0x22, 0xff, 0x22), 400, 'M_NOT_JSON'],
    ['no body', LOG_IN, '', 400, 'M_NOT_JSON'],
    ['an array', LOG_IN, '[]', 400, 'M_BAD_JSON'],
    ['a field of the wrong type', LOG_IN, '{"type":7}', 400, 'M_BAD_JSON'],
    ['200 levels', LOG_IN, `${'['.repeat(200)}${']'.repeat(200)}`, 400, 'M_BAD_JSON'],
    ['a million levels', LOG_IN, '['.repeat(1_000_000), 400, 'M_BAD_JSON'],
    ['CBOR that is cut off', `${LOG_IN}\r\nContent-Type: application/cbor`, bytesOf('a1'), 400, 'M_NOT_JSON'],
    [
      'CBOR with a key twice',
      `${LOG_IN}\r\nContent-Type: application/cbor`,
      bytesOf('a2 61 61 01 61 61 02'),
      400,
      'M_NOT_JSON',
    ],
    [
      'CBOR of the wrong type',
      `${LOG_IN}\r\nContent-Type: application/cbor`,
      bytesOf('80'),
      400,
      'M_BAD_JSON',
    ],
    [
      'CBOR of a million levels',
      `${LOG_IN}\r\nContent-Type: application/cbor`,
      new Uint8Array(1_000_000).fill(0x81),
      400,
      'M_NOT_JSON',
    ],
    ['XML', `${LOG_IN}\r\nContent-Type: text/xml`, '<a/>', 415, 'M_NOT_JSON'],
    ['a type that is none', `${LOG_IN}\r\nContent-Type: ;;`, '{}', 415, 'M_NOT_JSON'],
    ['no token', `${WHO} HTTP/1.1`, '', 401, 'M_MISSING_TOKEN'],
    ['a wrong token', `${WHO} HTTP/1.1\r\nAuthorization: Bearer x`, '', 401, 'M_UNKNOWN_TOKEN'],
    ['another scheme', `${WHO} HTTP/1.1\r\nAuthorization: Basic eDp4`, '', 401, 'M_UNKNOWN_TOKEN'],
    [
      'a federation request that is not signed',
      'PUT /_matrix/federation/v1/send/1 HTTP/1.1',
      '{"origin":"friend.test","origin_server_ts":1,"pdus":[]}',
      401,
      'M_UNAUTHORIZED',
    ],
    ['dots in the path', 'GET /_matrix/client/v3/../versions HTTP/1.1', '', 404, 'M_UNRECOGNIZED'],
    [
      'encoded dots in the path',
      'GET /_matrix/client/%2e%2e/client/versions HTTP/1.1',
      '',
      404,
      'M_UNRECOGNIZED',
    ],
    ['a doubled slash', 'GET //_matrix/client/versions HTTP/1.1', '', 404, 'M_UNRECOGNIZED'],
    ['a zero byte in the path', 'GET /_matrix/client/v3/profile/%00 HTTP/1.1', '', 400, 'M_INVALID_PARAM'],
    ['a path that is not UTF-8', 'GET /_matrix/client/v3/profile/%ff HTTP/1.1', '', 400, 'M_INVALID_PARAM'],
    ['half an escape', 'GET /_matrix/client/v3/profile/%4 HTTP/1.1', '', 400, 'M_INVALID_PARAM'],
    [
      'a parameter of 2,000 characters',
      `GET /_matrix/client/v3/profile/${'x'.repeat(2_000)} HTTP/1.1`,
      '',
      414,
      'M_TOO_LARGE',
    ],
    ['a method that is not taken', 'DELETE /_matrix/client/versions HTTP/1.1', '', 405, 'M_UNRECOGNIZED'],
    ['a method that is none', 'BREW /_matrix/client/versions HTTP/1.1', '', 400, 'M_UNKNOWN'],
    ['headers of 20,000 bytes', `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}`, '', 431, 'M_TOO_LARGE'],
    ['two lengths', `${LOG_IN}\r\nContent-Length: 4`, '{"a":1}', 400, 'M_UNKNOWN'],
    ['a length and chunks', `${LOG_IN}\r\nTransfer-Encoding: chunked`, '0\r\n\r\n', 400, 'M_UNKNOWN'],
    ['no HTTP', 'hello', '', 400, 'M_UNKNOWN'],
  ])('%s', async (_, head, body, status, errcode) => {
    const answer = await request(head, body);
    expect(answer.split('\r\n', 1)[0]).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4))).toMatchObject({ errcode });
  });

  it('more than the limit is refused by its length, before it has come', async () => {
    const answer = await rawHttp(
      victim.http[0]!.port,
      `${LOG_IN}\r\nHost: x\r\nConnection: close\r\nContent-Length: ${2 ** 32}\r\n\r\n{`,
    );
    expect(answer).toMatch(/^HTTP\/1.1 413 /);
    expect(answer).toContain('M_TOO_LARGE');
  });
});

describe('in the end', () => {
  it('everything that was said has arrived, once and in order', async () => {
    for (const user of [alice, bob]) await user.syncOnce();
    expect(bob.messages(room).map(({ body }) => body)).toEqual(said);
    expect(alice.messages(room).map(({ body }) => body)).toEqual(said);
    expect(counters()).toMatchObject({ established: 1, restarts: 0 });
    expect(friend.homeserver.counters().exchange).toMatchObject({ established: 1 });
  });
});
