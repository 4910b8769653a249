import { readFileSync } from 'node:fs';
import { concat, equal } from '../../src/base/bytes.ts';
import type { Random } from '../../src/base/random.ts';
import { Explainer } from '../../src/cli/decode/explain.ts';
import { ReadKeyLog } from '../../src/cli/key_log.ts';
import { decode, joinMessage, NO_BYTES } from '../../src/coap/message.ts';
import { UNSIGNED } from '../../src/compact/cbor_bytes.ts';
import { type Coder, type Coders, type Packing, packCompact } from '../../src/compact/container.ts';
import type { CompactContext, MessageHandles } from '../../src/compact/context.ts';
import type { HandleKind } from '../../src/compact/forms.ts';
import { Model } from '../../src/compact/mixer/model.ts';
import { ROUTES } from '../../src/compact/routes.ts';
import { CompactWriter } from '../../src/compact/value_writer.ts';
import { pipeCodecFor } from '../../src/exchange/pipe_codec.ts';
import { type Body, type ExchangeRequest, METHODS } from '../../src/exchange/request.ts';
import type { JsonValue } from '../../src/matrix/json.ts';
import { decodeMessage, encodeMessage, partMessages } from '../../src/pipe/message_header.ts';
import { SUITE } from '../../src/pipe/prologue.ts';
import { type ConnectionId, decodeRecord, transportHeader } from '../../src/pipe/record.ts';
import { partSeen } from '../../src/pipe/seen.ts';
import { told } from '../compact/told.ts';
import { ValuesUnderFire } from '../compact/values_under_fire.ts';

const KEY = new Uint8Array(32).fill(3);
const CONNECTION = 9 as ConnectionId;
const NUMBER = 77;
const SERVERS = ['a.example', 'b.example:8448'];
const GENERATION = 0x81;
/** A mixer takes milliseconds where a toy takes microseconds: one content in so many meets it. */
const MIXED_ONE_IN = 256;
const ODD_ONE_IN = 16;
const MODEL = new URL('../../src/compact/artifacts/small.mix', import.meta.url);
const ODD_TEXTS = [
  '',
  '/',
  'a b',
  '%',
  '100%',
  '~',
  '\ud800',
  'é',
  '$x',
  '@a:a.example',
  '!r:b.example:8448',
  '7',
  '007',
];
/** What a content has in few places: half a surrogate pair, marks, forms, handles, long lengths. */
const SNIPPETS: readonly Uint8Array[] = [
  [0xcc, 1, 0xd8, 0],
  [0xf7],
  [0xff],
  [0xfe],
  [0xce, 0],
  [0xcf, 9, 0x61, 0x61],
  [0xd0, 3],
  [0x9b, 0, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
].map((bytes) => Uint8Array.from(bytes));
const KEYS = ['since', 'limit', 'at', 'nobody knows', 'é'];

/** Says its own inverse, so that contents of every container form come back. */
const toy = (id: number): Coder => ({
  id,
  encode: (bytes) => (bytes.length < 2 ? undefined : turned(bytes).subarray(0, bytes.length)),
  decode: (bytes, maxBytes) =>
    bytes.length <= maxBytes ? { ok: true, value: turned(bytes) } : { ok: false, problem: 'too large' },
});
const turned = (bytes: Uint8Array): Uint8Array => bytes.map((byte) => byte ^ 0x5a);

/** Names for ids, as both ends of a way have them that has lost nothing. */
export class Names implements MessageHandles {
  readonly #texts = new Map<string, string>();
  readonly #slots = new Map<string, number>();

  get size(): number {
    return this.#slots.size;
  }

  write(kind: HandleKind, text: string): ReturnType<MessageHandles['write']> {
    if (text.length > 255) return undefined;
    const known = this.#slots.get(`${kind} ${text}`);
    if (known !== undefined) return { kind: 'known', slot: known };
    const slot = this.#slots.size % 512;
    this.#slots.set(`${kind} ${text}`, slot);
    return { kind: 'introduce', slot };
  }

  read(kind: HandleKind, slot: number): ReturnType<MessageHandles['read']> {
    return this.#texts.get(`${kind} ${slot}`) ?? { kind: 'unknown handle' };
  }

  introduce(kind: HandleKind, slot: number, text: string): boolean {
    this.#texts.set(`${kind} ${slot}`, text);
    return true;
  }
}

/**
 * Requests and answers through everything that is between them and a record, in every form of containers; and records with
 * changes, half of them made before the record was sealed, so that its tag is valid. Whatever goes wrong is thrown.
 */
export class ContentsUnderFire {
  readonly counts = {
    contents: 0,
    compact: 0,
    mixed: 0,
    formed: 0,
    mutations: 0,
    insideTags: 0,
    stillRead: 0,
    forged: 0,
  };
  readonly #random: Random;
  readonly #values: ValuesUnderFire;
  readonly #mixer: Model;
  readonly #explainer: Explainer;

  constructor(random: Random) {
    this.#random = random;
    this.#values = new ValuesUnderFire(random);
    const model = Model.parse(readFileSync(MODEL));
    if (!model.ok) throw new Error(model.problem);
    this.#mixer = model.value;
    const keys = new ReadKeyLog();
    keys.record(CONNECTION, { epoch: 0, key: KEY, sender: SERVERS[0]!, receiver: SERVERS[1]! });
    this.#explainer = new Explainer(keys);
  }

  /** A request, or the answer to one, there and back. */
  shoot(): void {
    const request = this.#request(true);
    const { writing, reading } = this.#codecs();
    const said = writing.encodeRequest(request);
    if (!said.ok) throw new Error(`request: ${said.problem}`);
    const back = reading.decodeRequest(said.value);
    if (!back.ok || requestText(back.value) !== requestText(request))
      throw new Error(`request: ${requestText(request)}`, { cause: back });
    const { body } = request;
    const answer = { status: 200, headers: {}, ...(body && { body }) };
    const answered = reading.decodeResponse(writing.encodeResponse(answer, said.value));
    if (!answered.ok || bodyText(answered.value.body) !== bodyText(body))
      throw new Error(`answer: ${bodyText(body)}`, { cause: answered });
    this.counts.contents += 2;
    if ((said.value.payload[0] ?? 0) >= 0x80) this.counts.compact++;
  }

  /** A record with a request, changed. What is read nevertheless is told by `decode`, all of it. */
  mutate(): void {
    const { writing, reading } = this.#codecs();
    const said = writing.encodeRequest(this.#request(true));
    if (!said.ok) throw new Error(said.problem);
    const payload = this.#random.integer(ODD_ONE_IN) === 0 ? this.#oddTarget() : said.value.payload;
    const rest = payload.length === 0 ? NO_BYTES : concat(Uint8Array.of(0xff), payload);
    const message = encodeMessage(
      { type: 'CON', code: said.value.code, copy: null, token: { kind: 'new' }, rest },
      NUMBER,
      false,
    );
    const isInside = this.#random.integer(2) === 0;
    if (isInside && this.#random.integer(8) > 0) this.#damage(message);
    const record = sealed(message);
    if (!isInside) this.#damage(record);
    const plaintext = opened(record);
    if (plaintext === undefined) this.counts.forged++;
    else this.#read(plaintext, reading);
    this.#explainer.explain(record);
    this.counts.mutations++;
    if (isInside) this.counts.insideTags++;
  }

  /** Any request, with what is hard to write in it. */
  request(): ExchangeRequest {
    return this.#request(false);
  }

  #read(plaintext: Uint8Array, codec: ReturnType<typeof pipeCodecFor>): void {
    const payload = partSeen(plaintext)?.payload ?? NO_BYTES;
    for (const bytes of partMessages(payload) ?? []) {
      const header = decodeMessage(bytes, NUMBER, false);
      if (!header.ok) continue;
      const { type, code, rest } = header.value;
      const message = decode(joinMessage({ type, code, id: 0, token: NO_BYTES, rest }));
      if (!message.ok) continue;
      const request = codec.decodeRequest(message.value);
      if (request.ok) this.counts.stillRead++;
      codec.decodeResponse(message.value);
    }
  }

  /** A target of some route, of which each part may be any text or number. */
  #oddTarget(): Uint8Array {
    const writer = new CompactWriter({});
    writer.byte(this.#random.integer(ROUTES.length));
    for (let parts = this.#random.integer(4); parts > 0; parts--) {
      if (this.#random.integer(4) === 0) writer.head(UNSIGNED, this.#random.integer(9));
      else writer.item(this.#of(ODD_TEXTS));
    }
    return packCompact(writer.content(), { kind: 'nothing' });
  }

  #damage(bytes: Uint8Array): void {
    const snippet = this.#of(SNIPPETS);
    if (this.#random.integer(2) === 0 && bytes.length > snippet.length)
      bytes.set(snippet, this.#random.integer(bytes.length - snippet.length));
    for (let n = this.#random.integer(3); n >= 0; n--)
      bytes[this.#random.integer(bytes.length)] = this.#random.integer(256);
  }

  /** How both ends write and read: in every form. */
  #codecs() {
    const names = this.#random.integer(2) === 0 ? new Names() : undefined;
    const context: CompactContext = { servers: SERVERS, ...(names && { handles: names }) };
    const isMixed = this.#random.integer(MIXED_ONE_IN) === 0;
    if (isMixed) this.counts.mixed++;
    const coder = isMixed ? this.#mixer.coder('request') : toy(7);
    const answers = isMixed ? this.#mixer.coder('answer') : coder;
    const packing = this.#of<Packing>([
      { kind: 'nothing' },
      { kind: 'static' },
      { kind: 'static', coder },
      { kind: 'history', learnt: { ...toy(7), generation: GENERATION } },
    ]);
    const coders = (used: Coder): Coders => ({
      coder: (id) => (id === used.id ? used : undefined),
      learnt: (id, generation) => ((id ?? 7) === 7 && generation === GENERATION ? toy(7) : undefined),
    });
    const plain = this.#random.integer(4) === 0;
    const reading = { context, coders: coders(coder) };
    const requests = pipeCodecFor({ ...(!plain && { writing: { context, packing } }), reading });
    // Answers have no histories.
    const answerPacking: Packing =
      packing.kind === 'history' || (packing.kind === 'static' && packing.coder !== undefined)
        ? { kind: 'static', coder: answers }
        : packing;
    const responses = pipeCodecFor({
      ...(!plain && { writing: { context, packing: answerPacking } }),
      reading: { context, coders: coders(answers) },
    });
    return {
      writing: { encodeRequest: requests.encodeRequest, encodeResponse: responses.encodeResponse },
      reading: { ...requests, decodeResponse: responses.decodeResponse },
    };
  }

  /** @param mayBeFormed whether its body may be in a form of the application */
  #request(mayBeFormed: boolean): ExchangeRequest {
    const [method, path] = this.#random.integer(8) === 0 ? this.#oddPath() : this.#routePath();
    const parts = Array.from({ length: this.#random.integer(3) }, () => {
      const key = encodeURIComponent(this.#of(KEYS));
      return this.#random.integer(4) === 0 ? key : `${key}=${this.#segment()}`;
    });
    const body = mayBeFormed && this.#random.integer(8) === 0 ? this.#formedBody() : this.#body();
    return { method, path, query: parts.join('&'), ...(body && { body }) };
  }

  #routePath(): readonly [string, string] {
    const route = this.#of(ROUTES);
    const segments = route.segments.map((segment) =>
      typeof segment === 'string' ? segment : this.#segment(),
    );
    return [route.method, segments.join('/')];
  }

  #oddPath(): readonly [string, string] {
    return [this.#of(Object.keys(METHODS)), `/${this.#segment()}/${this.#segment()}`];
  }

  /** A part of a path: percent-encoded as usual, or otherwise. */
  #segment(): string {
    const text = this.#random.integer(3) === 0 ? this.#of(ODD_TEXTS) : this.#id();
    const encoded = text.isWellFormed() ? encodeURIComponent(text) : 'x';
    return this.#random.integer(6) === 0 ? encoded.replaceAll('%3A', ':').replaceAll('%40', '@') : encoded;
  }

  #id(): string {
    const sigil = this.#of(['!', '@', '$', '', '#']);
    return `${sigil}${this.#random.integer(9)}:${this.#of([...SERVERS, 'other.example'])}`;
  }

  #formedBody(): Body {
    this.counts.formed++;
    const text = this.#of([...ODD_TEXTS, this.#id()].filter((one) => one.isWellFormed()));
    return { kind: 'formed', json: { text }, write: (writer) => writer.item(text) };
  }

  #body(): Body | undefined {
    switch (this.#random.integer(4)) {
      case 0:
        return undefined;
      case 1: {
        const contentType = this.#of(['image/png', 'text/plain', 'application/octet-stream', 'x/y; z']);
        return { kind: 'bytes', contentType, bytes: this.#random.bytes(this.#random.integer(90)) };
      }
      default:
        return { kind: 'json', value: plainly(this.#values.value()) };
    }
  }

  #of<T>(list: readonly T[]): T {
    return list[this.#random.integer(list.length)]!;
  }
}

/** What the plain form, which is UTF-8, can say too: no half surrogate pairs, no negative zero. */
const plainly = (value: JsonValue): JsonValue => {
  const text = JSON.stringify(value);
  return text.isWellFormed() && !/\\ud[89a-f]/i.test(text) ? (JSON.parse(text) as JsonValue) : { text: 'x' };
};

export const requestText = ({ method, path, query, body }: ExchangeRequest): string =>
  `${method} ${path}?${query} ${bodyText(body)}`;

export function bodyText(body: Body | undefined): string {
  if (body?.kind === 'json') return told(body.value);
  if (body?.kind === 'formed') return told(body.json);
  if (body?.kind === 'compact') return told({ text: body.reader.item() ?? null });
  return body?.kind === 'bytes' ? `${body.contentType} ${[...body.bytes].join()}` : 'none';
}

const HEADER = transportHeader('data', CONNECTION, {
  phase: 0,
  isResend: false,
  salt: undefined,
  truncated: NUMBER,
  numberLength: 1,
});

const sealed = (plaintext: Uint8Array): Uint8Array =>
  concat(HEADER, SUITE.cipher.aead.seal(KEY, SUITE.cipher.nonce(BigInt(NUMBER)), HEADER, plaintext));

function opened(datagram: Uint8Array): Uint8Array | undefined {
  const record = decodeRecord(datagram);
  if (!record.ok || !('sealed' in record.value)) return undefined;
  const { header, sealed: ciphertext } = record.value;
  if (!equal(header, HEADER)) return undefined;
  return SUITE.cipher.aead.open(KEY, SUITE.cipher.nonce(BigInt(NUMBER)), header, ciphertext);
}
