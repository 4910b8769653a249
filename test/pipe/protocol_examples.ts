import { readFileSync, writeFileSync } from 'node:fs';
import { fromUtf8, hex } from '../../src/base/bytes.ts';
import type { Random } from '../../src/base/random.ts';
import type { CoapRequest, CoapStep } from '../../src/coap/api.ts';
import { METHOD } from '../../src/coap/codes.ts';
import { CoapEndpoint } from '../../src/coap/endpoint.ts';
import { encode, type Message, partMessage } from '../../src/coap/message.ts';
import { modelledTiming } from '../../src/coap/timing.ts';
import { unpack } from '../../src/compact/container.ts';
import { pipeCodec } from '../../src/exchange/pipe_codec.ts';
import type { ExchangeRequest } from '../../src/exchange/request.ts';
import { NO_CAPABILITIES } from '../../src/pipe/agreement.ts';
import { PipeEndpoint, type PipeStep } from '../../src/pipe/endpoint.ts';
import {
  encodeAccepted,
  encodeAnswered,
  encodeConfirmed,
  encodeResumed,
} from '../../src/pipe/handshake_payload.ts';
import { createIdentity, identityDigest } from '../../src/pipe/identity.ts';
import { sessionNames } from '../../src/pipe/message_names.ts';
import { PeerMessages } from '../../src/pipe/peer_messages.ts';
import type { ConnectionId } from '../../src/pipe/record.ts';
import type { SentAs } from '../../src/pipe/sent_messages.ts';
import { Talk } from './talk.ts';

/*
 * Makes the last section of docs/protocol.md. `node test/pipe/protocol_examples.ts` writes it, the test of the document
 * compares.
 */

const DOCUMENT = new URL('../../docs/protocol.md', import.meta.url);
const HEADING = '## Examples\n';
const BYTES_A_LINE = 32;
/** Negotiation is spoken, and headers are compact. */
const COMPACT = Uint8Array.of(0x06);
/** What the clocks of both say. */
const CLOCK_MS = 1_800_000_000_000;

interface Party {
  readonly letter: 'a' | 'b';
  readonly name: string;
  readonly connectionId: number;
  readonly serial: number;
}

const ALPHA: Party = { letter: 'a', name: 'alpha.example', connectionId: 5, serial: 1 };
const BRAVO: Party = { letter: 'b', name: 'bravo.example', connectionId: 9, serial: 2 };

/** `length` times the byte of that hexadecimal digit twice: a2 a2 a2. */
const repeated = ({ letter }: Party, digit: number, length: number): Uint8Array =>
  new Uint8Array(length).fill(Number.parseInt(`${letter}${digit}`, 16));

const identityOf = (party: Party) =>
  createIdentity({
    serverName: party.name,
    noiseSecret: repeated(party, 2, 32),
    signingKeyId: `ed25519:${party.letter}`,
    signingSecret: repeated(party, 3, 32),
    serial: party.serial,
  });

/** Gives what the example says instead of chance: a boot id of 8 bytes, an ephemeral key of 32, a connection id. */
function randomOf(party: Party): Random {
  let next = party.connectionId;
  return {
    bytes: (length) => repeated(party, length === 8 ? 0 : 1, length),
    integer: () => next++,
    fraction: () => 0,
  };
}

const endpointOf = (party: Party): PipeEndpoint =>
  new PipeEndpoint({
    identity: identityOf(party),
    random: randomOf(party),
    handshakeTiming: () => ({ rate: null, delay: 0, overhead: 0 }),
    wallOrigin: CLOCK_MS,
  });

/** Bytes field by field: each with what it is, in lines of 32. */
function block(fields: readonly (readonly [name: string, bytes: Uint8Array])[]): string {
  const lines = fields.flatMap(([name, bytes]) => {
    const rows: string[] = [];
    for (let at = 0; at < bytes.length; at += BYTES_A_LINE)
      rows.push(hex(bytes.subarray(at, at + BYTES_A_LINE)));
    return rows.map((row, i) => (i === 0 ? `${row.padEnd(2 * BYTES_A_LINE)}  ${name}` : row));
  });
  return `\`\`\`\n${lines.join('\n')}\n\`\`\`\n`;
}

/** Splits bytes into fields of these lengths; the last takes the rest. */
function split(bytes: Uint8Array, ...fields: readonly (readonly [name: string, length?: number])[]) {
  let at = 0;
  return fields.map(([name, length = bytes.length - at]) => {
    at += length;
    return [name, bytes.subarray(at - length, at)] as const;
  });
}

const transport = (record: Uint8Array): string =>
  block([
    ...split(record.subarray(0, 3), ['first byte', 1], ['connection id', 1], ['packet number', 1]),
    ...split(record.subarray(3), ['ciphertext', record.length - 19], ['tag']),
  ]);

const PAYLOAD_MARKER = 0xff;
const CHANGED = 0x44;
const CONTENT = 0x45;
const REQUEST_BYTES = 1_200;
const RESPONSE_BYTES = 600;

/** A request and its answer, both in blocks of 256 bytes, of which one gets lost: each message up to the payload. */
function largeBodies(): string {
  const timing = modelledTiming({ rate: 100, delay: 1_000, overhead: 68, mtu: 1_200 });
  const endpoint = (id: number): CoapEndpoint => {
    const random = { bytes: () => Uint8Array.of(0x70, 0x71), integer: () => id, fraction: () => 0 };
    return new CoapEndpoint({ random, timing: () => timing, tokenBytes: 2, selective: true });
  };
  const sides = [endpoint(0x4d31), endpoint(0x1f01)] as const;
  const fields: [string, Uint8Array][] = [];
  const lost = 'NON PUT q-block1 2/5';
  const run = (side: 0 | 1, { datagrams, events }: CoapStep): void => {
    for (const { bytes, label, receipt } of datagrams) {
      const at = bytes.indexOf(PAYLOAD_MARKER) + 1;
      const isBlock = label.includes('q-block');
      const rest = isBlock ? `, ${bytes.length - at} bytes` : '';
      const fate = label === lost ? ': lost' : '';
      fields.push([`${'AB'[side]}: ${label}${rest}${fate}`, isBlock ? bytes.subarray(0, at) : bytes]);
      const other = side === 0 ? 1 : 0;
      if (label !== lost) run(other, sides[other].receive('peer', bytes, 0));
      if (receipt !== null) run(side, sides[side].left(receipt, 0));
    }
    for (const event of events) {
      if (event.kind !== 'request') continue;
      const response = { code: 0x44, options: [], payload: new Uint8Array(RESPONSE_BYTES) };
      run(side, sides[side].respond(event.exchange, response, 0));
    }
  };
  const request = { code: 3, options: [], payload: new Uint8Array(REQUEST_BYTES) };
  run(0, sides[0].request('peer', request, { deadline: 1_000_000, priority: 1 }, 0).step);
  return block(fields);
}

/** What stands in front of the options of some messages, A's from number 37 on and B's from 200 on. */
function headers(): string {
  const talk = new Talk();
  talk.a.skip(37);
  talk.b.skip(200);
  const fields: [string, Uint8Array][] = [];
  const say = (
    side: 'a' | 'b',
    label: string,
    message: Partial<Message>,
    as: Partial<SentAs> = {},
  ): Message => {
    const { number } = talk[side];
    const bytes = encode({
      ...{ type: 'CON', code: 0, id: 1, token: new Uint8Array(0), options: [], payload: new Uint8Array(0) },
      ...message,
    } as Message);
    const wire = talk.write(side, bytes, as);
    fields.push([`${side.toUpperCase()}, number ${number}: ${label}`, wire.bytes]);
    return talk.read(side === 'a' ? 'b' : 'a', wire);
  };
  const [token, another, handle] = [
    Uint8Array.of(0x70, 0x71),
    Uint8Array.of(0x72, 0x73),
    Uint8Array.of(0x74),
  ];
  const put = { code: METHOD.put, token } as const;
  say('a', 'CON PUT', { ...put, id: 1 }, { request: 1 });
  const arrived = say(
    'a',
    'its second copy, in a record with the resend bit',
    { ...put, id: 1 },
    { request: 1, copy: 1 },
  );
  say('b', 'ACK 2.04 to the second copy', { ...arrived, type: 'ACK', code: CHANGED });
  say('a', 'CON PUT', { ...put, id: 2 }, { request: 2 });
  const part = say('a', 'CON PUT with the same token', { ...put, id: 3 }, { request: 2 });
  say('b', 'empty ACK to that', { type: 'ACK', id: part.id });
  const answer = say('b', 'CON 2.04, the answer', { type: 'CON', code: CHANGED, token: part.token });
  say('a', 'empty ACK to that', { type: 'ACK', id: answer.id });
  say('a', 'the request once more with another token', { ...put, id: 4, token: another }, { request: 2 });
  const observed = say('a', 'CON GET to observe', { code: METHOD.get, id: 5, token: handle });
  say('b', 'CON 2.05 to the observer', { code: CONTENT, id: 2, token: observed.token });
  talk.renew();
  say(
    'a',
    'the last CON PUT again on the next session, with the resend bit',
    { ...put, id: 4, token: another },
    { copy: 1 },
  );
  return block(fields);
}

/** A handshake, a request and its answer between two servers of which everything is known. */
export function examples(): string {
  const [a, b] = [endpointOf(ALPHA), endpointOf(BRAVO)];
  const [alpha, bravo] = [identityOf(ALPHA), identityOf(BRAVO)];
  const sent = ({ datagrams }: PipeStep): Uint8Array[] => datagrams.map(({ bytes }) => bytes);
  const trust = (endpoint: PipeEndpoint, { events }: PipeStep): PipeStep => {
    const identity = events.find(({ kind }) => kind === 'identity');
    if (identity?.kind !== 'identity') throw new Error('an identity has been shown');
    return endpoint.decide(identity.session, { trusted: true }, 0);
  };

  const request: ExchangeRequest = {
    method: 'PUT',
    path: '/_matrix/federation/v1/send/1',
    query: '',
    body: { kind: 'json', value: { pdus: [] } },
  };
  const encoded = pipeCodec.encodeRequest(request) as { readonly ok: true; readonly value: CoapRequest };
  const unpacked = unpack(encoded.value.payload, 1_000);
  if (!unpacked.ok) throw new Error(unpacked.problem.kind);
  const asked = encode({ type: 'CON', id: 0x4d31, token: Uint8Array.of(0x70, 0x71), ...encoded.value });
  const response = pipeCodec.encodeResponse(
    { status: 200, headers: {}, body: { kind: 'json', value: { pdus: {} } } },
    encoded.value,
  );
  /** The same message for the first record of data of the session. */
  const compact = (messages: PeerMessages, coap: Uint8Array, isInitiator: boolean): Uint8Array => {
    const place = { ...sessionNames(CLOCK_MS, isInitiator), number: 0, isShort: true };
    const written = messages.write(partMessage(coap)!, { request: null, copy: 0 }, place, 0);
    if (written === undefined) throw new Error('there is something to be said');
    return written.encode(false);
  };
  const coap = (bytes: Uint8Array, first: string): string =>
    block(split(bytes, [first, 1], ['container: format', 1], ['container: content']));

  const item = (bytes: Uint8Array) => ({ bytes, priority: 1, receipt: null, label: '' }) as const;
  a.setPeer(BRAVO.name, 'b');
  const [first] = sent(a.send(BRAVO.name, [item(asked)], 0));
  const [second] = sent(b.receive('a', first!, 0));
  const [third, requestRecord] = sent(trust(a, a.receive('b', second!, 0)));
  trust(b, b.receive('a', third!, 0));
  const arrived = b.receive('a', requestRecord!, 0).events.find(({ kind }) => kind === 'payload');
  if (arrived?.kind !== 'payload') throw new Error('it has arrived');
  const { id, token, rest } = partMessage(arrived.bytes)!;
  if (hex(rest) !== hex(partMessage(asked)!.rest)) throw new Error('it has arrived as it was');
  const answered = encode({ type: 'ACK', id, token, ...response });
  const [answerRecord] = sent(b.send(ALPHA.name, [item(answered)], 0));
  const asksFor = compact(new PeerMessages(), asked, true);
  const reader = new PeerMessages(id);
  const times = { exchangeLifetime: 1, longestReply: 1 };
  const place = { ...sessionNames(CLOCK_MS, false), number: 0, isShort: true };
  const read = reader.read(asksFor, false, place, 0, times);
  if (!read.ok || hex(read.value.bytes) !== hex(arrived.bytes)) throw new Error('it is what has arrived');
  const says = compact(reader, answered, false);

  a.receive('b', answerRecord!, 0);
  const [resume] = sent(a.renew(BRAVO.name, 0));
  const [accept] = sent(b.receive('a', resume!, 0));
  const [ask] = sent(trust(a, a.receive('b', accept!, 0)));
  if (!trust(b, b.receive('a', ask!, 0)).events.some(({ kind }) => kind === 'established'))
    throw new Error('the renewal has succeeded');
  const resumed = encodeResumed({
    generation: CLOCK_MS + 1,
    check: identityDigest(alpha, COMPACT).slice(0, 6),
    bootId: repeated(ALPHA, 0, 8),
    capabilities: NO_CAPABILITIES,
  });
  const accepted = encodeAccepted({
    connectionId: (BRAVO.connectionId + 1) as ConnectionId,
    bootId: repeated(BRAVO, 0, 8),
    opening: false,
    capabilities: NO_CAPABILITIES,
  });

  const ofXX = {
    connectionId: BRAVO.connectionId as ConnectionId,
    opening: false,
    capabilities: COMPACT,
  };
  const said = encodeAnswered(bravo, repeated(BRAVO, 0, 8), ofXX, true);
  const confirmed = encodeConfirmed(alpha, repeated(ALPHA, 0, 8), undefined);
  const identity = (serial: string, last: string): readonly (readonly [string, number?])[] => [
    ['boot id', 8],
    [serial, 6],
    ['signing key', 32],
    ['binding', 64],
    ['key version', 2],
    [last],
  ];

  return [
    HEADING,
    'Made by `test/pipe/protocol_examples.ts`; a test compares. All secrets are a byte repeated. Whoever deflates otherwise\ngets other bytes for the two containers, and for what follows from them.\n',
    '| | initiator | responder |\n| --- | --- | --- |',
    `| server name | ${ALPHA.name} | ${BRAVO.name} |`,
    '| boot id | 8 times `a0` | 8 times `b0` |',
    '| ephemeral secret | 32 times `a1` | 32 times `b1` |',
    '| static secret | 32 times `a2` | 32 times `b2` |',
    '| seed of the signing key | 32 times `a3` | 32 times `b3` |',
    `| signing key id | ${alpha.signingKeyId} | ${bravo.signingKeyId} |`,
    `| serial | ${ALPHA.serial} | ${BRAVO.serial} |`,
    `| connection id; that of the second session | ${ALPHA.connectionId}; ${ALPHA.connectionId + 1} | ${BRAVO.connectionId}; ${BRAVO.connectionId + 1} |`,
    `| clock | ${CLOCK_MS} | ${CLOCK_MS} |\n`,
    `XX1, ${first!.length} bytes:\n`,
    block(
      split(
        first!,
        ['first byte', 1],
        ['version and suite', 1],
        ["initiator's connection id", 1],
        ['ephemeral key', 32],
        ['features', 1],
        ['generation', 6],
        ['padding'],
      ),
    ),
    `XX2, ${second!.length} bytes:\n`,
    block(
      split(
        second!,
        ['first byte', 1],
        ["initiator's connection id", 1],
        ['ephemeral key', 32],
        ['static key, sealed', 48],
        ['payload, sealed'],
      ),
    ),
    'The payload in it:\n',
    block(split(said, ["responder's connection id", 1], ...identity('serial, with the mark', 'features'))),
    `XX3, ${third!.length} bytes:\n`,
    block(
      split(
        third!,
        ['first byte', 1],
        ["responder's connection id", 1],
        ['static key, sealed', 48],
        ['payload, sealed'],
      ),
    ),
    'The payload in it:\n',
    block(split(confirmed, ...identity('serial', `server name: ${ALPHA.name}`))),
    `The request \`${request.method} ${request.path}\` with \`${JSON.stringify({ pdus: [] })}\` as a message, ${asksFor.length} bytes:\n`,
    coap(asksFor, 'first byte: CON PUT'),
    'What is in its container, unpacked: a text and a map.\n',
    block(split(unpacked.value, ['target', 2 + request.path.length], ['body'])),
    `The record that carries it, ${requestRecord!.length} bytes:\n`,
    transport(requestRecord!),
    `The answer 200 with \`${JSON.stringify({ pdus: {} })}\`, ${says.length} bytes:\n`,
    coap(says, 'first byte: ACK 2.04 to a number that ends with 0'),
    `The record that carries it, ${answerRecord!.length} bytes:\n`,
    transport(answerRecord!),
    `The second session begins with IK1, ${resume!.length} bytes:\n`,
    block(
      split(
        resume!,
        ['first byte', 1],
        ['version and suite', 1],
        ["initiator's connection id", 1],
        ['ephemeral key', 32],
        ['static key, sealed', 48],
        ['payload, sealed'],
      ),
    ),
    'The payload in it:\n',
    block(split(resumed, ['generation', 6], ['check', 6], ['boot id', 8])),
    `IK2, ${accept!.length} bytes:\n`,
    block(
      split(
        accept!,
        ['first byte', 1],
        ["initiator's connection id", 1],
        ['ephemeral key', 32],
        ['payload, sealed'],
      ),
    ),
    'The payload in it:\n',
    block(split(accepted, ["responder's connection id", 1], ['boot id', 8])),
    `Nothing waits to be sent, so the first record of the second session is control, ask, ${ask!.length} bytes:\n`,
    transport(ask!),
    'Headers of messages without options and payload. The session has generation 1, the next one 2, and A has opened both:\n',
    headers(),
    `A request of A with a body of ${REQUEST_BYTES.toLocaleString('en')} bytes and the answer of B with one of ${RESPONSE_BYTES}, as CoAP messages up to the payload of a\nblock:\n`,
    largeBodies(),
  ].join('\n');
}

/** The same section as it stands in the document. */
export function documented(): string {
  const text = fromUtf8(readFileSync(DOCUMENT))!;
  return text.slice(text.indexOf(HEADING));
}

if (import.meta.main) {
  const text = fromUtf8(readFileSync(DOCUMENT))!;
  const at = text.indexOf(HEADING);
  writeFileSync(DOCUMENT, (at < 0 ? `${text.trimEnd()}\n\n` : text.slice(0, at)) + examples());
}
