import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { concat, fromUtf8, hex, utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { codeLabel } from '../../src/coap/codes.ts';
import { DEFAULT_LIMITS as COAP_LIMITS } from '../../src/coap/core.ts';
import { decode, encode, type Message } from '../../src/coap/message.ts';
import { OPTION } from '../../src/coap/options.ts';
import { decodeJson } from '../../src/compact/cbor.ts';
import type { ExchangeCounters } from '../../src/exchange/socket_options.ts';
import type { JsonValue } from '../../src/matrix/json.ts';
import { MatrixUser } from '../../src/mesh/matrix_user.ts';
import { DEFAULT_LIMITS as PIPE_LIMITS } from '../../src/pipe/limits.ts';
import { completeConfig, type PartialConfig } from '../../src/server/config.ts';
import { openServer, type RunningServer } from '../../src/server/open.ts';
import { freePort } from '../free_port.ts';
import { rawHttp, Speaker, Stranger, Wire } from './attacker.ts';
import { bytesOf, HTTP_REQUESTS, LOG_IN, LOGIN, MESSAGES, REQUESTS, token, whoami } from './bad_requests.ts';

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

const answersIn = (seconds: number): number =>
  PIPE_LIMITS.answersBurst + Math.ceil(PIPE_LIMITS.answersPerSecond * seconds);

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
    // Hints about connections that nobody knows, and what versions there are: all of them short, and rationed.
    const hints = records.filter((bytes) => bytes[0]! <= 0xf2);
    const versions = records.filter((bytes) => bytes[0] === 0xf9);
    expect(hints.length + versions.length).toBe(records.length);
    expect(hints.length).toBeLessThanOrEqual(hintsIn(seconds));
    for (const bytes of records) expect(bytes.length).toBeLessThanOrEqual(9);
    expect(counts).toMatchObject({ established: 0, refused: 0, ignored: 64 * 7 + 2 });
    expect(counts.pipeMalformed).toBeGreaterThan(128 * 6);
    expect(counts.coapMalformed).toBeGreaterThan(100);
  });
});

describe('plain CoAP messages', () => {
  afterAll(stillWell);

  it.each(MESSAGES)('%s: %s', async (_, datagram, expected) => {
    const from = await stranger();
    expect((await from.sendAll([bytesOf(datagram)])).map(hex)).toEqual(
      expected.map((text) => hex(bytesOf(text))),
    );
  });
});

describe('plain CoAP requests that are well-formed and wrong', () => {
  afterAll(stillWell);

  let ids = 0x1000;

  it.each(REQUESTS)('%s', async (_, message, expected, errcode) => {
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

  it('XX1 with garbage gets an XX2 of at most three times its length, what is short nothing, and another version the one that there is', async () => {
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
    flagged[0] = 0x98;
    expect(await from.sendAll([xx1.subarray(0, 34), xx1.subarray(0, 60), flagged])).toEqual([]);
    expect((await from.sendAll([other])).map(hex)).toEqual(['f90511']);
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
    const before = counters().refused;
    const counts = await effects(async () => {
      openInvitations++;
      void alice.createRoom({ preset: 'private_chat', invite: [`@x:${IMPOSTOR}`] }).catch(() => undefined);
      await expect.poll(() => counters().refused).toBe(before + 1);
    });
    expect(counts).toMatchObject({ established: 0 });
    // He has seen an XX1 and no more.
    expect(speaker.events).toEqual([]);
  });

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
    const cookies = answers.filter((bytes) => bytes[0] === 0xf8);
    const answered = answers.filter((bytes) => bytes[0] === 0xa0);
    expect(cookies.length + answered.length).toBe(answers.length);
    expect(answered.length).toBeLessThanOrEqual(answersIn(seconds) + 1);
    for (const bytes of cookies) expect(bytes.length).toBe(10);
    expect(counts).toMatchObject({ established: 0, refused: 0, throttled: flood.length - answered.length });
    expect(counters().held.pipe.halfOpen).toBeLessThanOrEqual(PIPE_LIMITS.halfOpen);
  });
});

describe('what was captured on the wire', () => {
  afterEach(stillWell);

  it('replayed from a stranger, it is no use: no record is taken twice, nobody gets more than he sent', async () => {
    const from = await stranger();
    const toVictim = wire.captured.filter(({ to }) => to === 'left').map(({ bytes }) => bytes);
    const data = toVictim.filter((bytes) => (bytes[0]! & 0xf0) === 0x80);
    const handshakes = toVictim.filter((bytes) => (bytes[0]! & 0xf0) !== 0x80);
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
      for (const kind of [0x80, 0x83, 0xe0, 0xe3])
        records.push(concat(Uint8Array.of(kind, id), new Uint8Array(7), random.bytes(40)));
      records.push(
        Uint8Array.of(0xf0, id, 0),
        concat(Uint8Array.of(0xa0, id), random.bytes(250)),
        concat(Uint8Array.of(0xb0, id), random.bytes(220)),
      );
    }
    const answers: Uint8Array[] = [];
    let counts: Record<string, number> = {};
    const seconds = await secondsOf(async () => {
      // What may be answered has been spent by earlier tests; it comes back.
      const answered = async (): Promise<number> => answers.push(...(await from.sendAll(records)));
      counts = await effects(() => expect.poll(answered, { timeout: 10_000 }).toBeGreaterThan(0));
    });
    expect(counts).toMatchObject({ established: 0, refused: 0 });
    for (const bytes of answers) expect(bytes[0]! & 0xf0).toBe(0xf0);
    expect(answers.length).toBeLessThanOrEqual(hintsIn(seconds));
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
  it.each(HTTP_REQUESTS)('%s', async (_, head, body, status, errcode) => {
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
