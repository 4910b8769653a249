import { assert } from '../base/assert.ts';
import { concat } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { COMPACT_DICTIONARY, DICTIONARIES, type DictionaryId, PLAIN_DICTIONARY } from './dictionary.ts';
import { deflate, inflate } from './flate.ts';
import { byteOfShortName, SHORT_NAMES, shortNameOf } from './history_name.ts';
import type { CompactContent } from './value_writer.ts';

/*
 * The first byte of a container:
 *
 *     00000000   bytes as they are, of dictionary 1        0nnnnnnn   Deflate with preset dictionary n
 *     1ffbiiii   form f and an id i, 1 to 15; where that is 0 the next byte is the id
 *                0: as they are, of dictionary i    1: Deflate with dictionary i    2: mixer with model i
 *                3: mixer with model i and what both ends have learnt; the next byte says what that is (`history_name.ts`)
 *
 * Where b is 1, the blobs follow (hashes, keys and signatures, which nothing compresses) and are missing in the content:
 * first how many bytes they are, in seven bits a byte, the lowest first, with the highest bit set in all but the last.
 *
 * A request that goes on with a history has less in front of it, where the history is one of the first few and its message is
 * learnt from: the first byte is 2 + 28 * shape + its short name (`history_name.ts`). The shape says which blobs follow: none, or as
 * many bytes as SHAPES has; or a byte follows that says how long the packed bytes are that follow, and blobs behind them.
 *
 * What a dictionary's id says about the content: see `dictionary.ts`.
 */
const RAW = 0;
const COMPACT = 0x80;
const FORMS = { raw: 0, flate: 1, mixer: 2, history: 3 } as const;
const WITH_BLOBS = 0x10;
const MAX_SHORT_ID = 15;
/** The first of the bytes that say nearly everything of a history. */
const FIRST_SHORT = 2;
/** Bytes of blobs: none; what an event without its signature has, its check and its time; what one with it has, time and signature. */
const SHAPES = [0, 4, 63] as const;
/** The length of what is packed is told. */
const TOLD_SHAPE = SHAPES.length;
const MOST_TOLD_BYTES = 255;
const END_OF_SHORT = FIRST_SHORT + (SHAPES.length + 1) * SHORT_NAMES;
/** Bytes of a varint that are read: more than any container has. */
const MAX_VARINT_BYTES = 5;

// Ours.
/** How many times longer than what is packed the rest may be, beyond MAX_FREE_BYTES; the writer keeps it. */
export const MAX_RATIO = 200;
export const MAX_FREE_BYTES = 64 * 1024;
/** How many bytes more a container may have so that both ends learn from it: it begins a history, or goes on with one. */
const LEARNING_BYTES = 1;

/** A coder of short contents, their blobs taken out, that both ends have: the context mixer, primed or with learnt history. */
export interface Coder {
  /** The model's, 1 to 255. It says that the content is of COMPACT_DICTIONARY's form. */
  readonly id: number;
  /** Undefined where the content is too long for it. */
  encode(bytes: Uint8Array): Uint8Array | undefined;
  /** At most `maxBytes`; whatever the bytes are, the work is bounded. */
  decode(bytes: Uint8Array, maxBytes: number): Result<Uint8Array, string>;
}

/** A coder that has learnt from the answered messages of one room to one peer, and from nothing else. */
export interface LearntCoder extends Pick<Coder, 'id' | 'encode'> {
  /** One byte: what it has learnt, and what is learnt from this message. */
  readonly generation: number;
}

/**
 * What a content may be packed with. Secrets are not compressed beside what somebody else may choose, since lengths tell
 * about them: account data, to-device messages, keys and login use `static` or `nothing`; `history` is for events of one room.
 */
export type Packing =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'static'; readonly coder?: Coder }
  | { readonly kind: 'history'; readonly coder?: Coder; readonly learnt: LearntCoder };

/** What the peer's containers may be opened with, besides the dictionaries. */
export interface Coders {
  coder(id: number): Coder | undefined;
  /** What has been learnt, by the byte that names it. @param id undefined: with the model that it began with */
  learnt(id: number | undefined, generation: number): Coder | undefined;
}

export const NO_CODERS: Coders = { coder: () => undefined, learnt: () => undefined };

/** Why a container could not be opened. `unknown format` is one that a newer version may know. */
export type ContainerProblem =
  | { readonly kind: 'empty' }
  | { readonly kind: 'unknown format'; readonly id: number }
  /** The model has gone from here: the sender has to do without. */
  | { readonly kind: 'unknown model'; readonly id: number }
  /** What both ends should have learnt is not known here: the sender has to do without. */
  | { readonly kind: 'unknown history'; readonly generation: number }
  | { readonly kind: 'too large' }
  | { readonly kind: 'malformed' };

/** Content in the plain form (dictionary 1): as it is or deflated, whichever is shorter. Not for secrets. */
export function pack(bytes: Uint8Array): Uint8Array {
  const packed = deflate(bytes, DICTIONARIES[PLAIN_DICTIONARY]);
  return packed.length < bytes.length ? concat(Uint8Array.of(PLAIN_DICTIONARY), packed) : packAsItIs(bytes);
}

/**
 * Content in the plain form with secrets in it: as it is. Beside text that somebody else has chosen, the length of what is
 * compressed would tell about them.
 */
export const packAsItIs = (bytes: Uint8Array): Uint8Array => concat(Uint8Array.of(RAW), bytes);

/** Content in the compact form, in whatever is shortest. */
export function packCompact({ bytes, blobs }: CompactContent, packing: Packing): Uint8Array {
  let best = concat(formHead(FORMS.raw, COMPACT_DICTIONARY), bytes);
  if (packing.kind === 'nothing') return best;
  const apart = concat(...blobs.map(([start, end]) => bytes.subarray(start, end)));
  const rest = apart.length === 0 ? bytes : without(bytes, blobs);
  const consider = (head: Uint8Array, packed: Uint8Array | undefined): void => {
    if (packed === undefined || rest.length > mostBytes(packed)) return;
    const container = withBlobs(head, apart, packed);
    if (container.length < best.length) best = container;
  };
  const { coder } = packing;
  consider(formHead(FORMS.flate, COMPACT_DICTIONARY), deflate(rest, DICTIONARIES[COMPACT_DICTIONARY]));
  if (coder !== undefined) consider(formHead(FORMS.mixer, coder.id), coder.encode(rest));
  if (packing.kind === 'history') {
    const { learnt } = packing;
    const packed = learnt.encode(rest);
    if (packed === undefined || rest.length > mostBytes(packed)) return best;
    const container = shortHistory(learnt.generation, apart, packed) ?? longHistory(learnt, apart, packed);
    if (container.length <= best.length + LEARNING_BYTES) return container;
  }
  return best;
}

/** The container whose first byte says nearly everything; undefined where it cannot. */
function shortHistory(generation: number, blobs: Uint8Array, packed: Uint8Array): Uint8Array | undefined {
  const name = shortNameOf(generation);
  if (name === undefined) return undefined;
  const known = (SHAPES as readonly number[]).indexOf(blobs.length);
  const first = (shape: number): number => FIRST_SHORT + shape * SHORT_NAMES + name;
  if (known >= 0) return concat(Uint8Array.of(first(known)), blobs, packed);
  if (packed.length > MOST_TOLD_BYTES) return undefined;
  return concat(Uint8Array.of(first(TOLD_SHAPE), packed.length), packed, blobs);
}

const longHistory = ({ id, generation }: LearntCoder, blobs: Uint8Array, packed: Uint8Array): Uint8Array =>
  withBlobs(concat(formHead(FORMS.history, id), Uint8Array.of(generation)), blobs, packed);

function without(bytes: Uint8Array, blobs: CompactContent['blobs']): Uint8Array {
  const ends = [0, ...blobs.map(([, end]) => end)];
  const starts = [...blobs.map(([start]) => start), bytes.length];
  return concat(...starts.map((start, i) => bytes.subarray(ends[i], start)));
}

function withBlobs(head: Uint8Array, blobs: Uint8Array, packed: Uint8Array): Uint8Array {
  if (blobs.length === 0) return concat(head, packed);
  const length: number[] = [];
  let left = blobs.length;
  for (; left >= 0x80; left >>>= 7) length.push(0x80 | (left & 0x7f));
  const container = concat(head, Uint8Array.of(...length, left), blobs, packed);
  container[0]! |= WITH_BLOBS;
  return container;
}

/** Whether an answer's container is in the compact form; what it holds then is too. */
export const isCompact = (container: Uint8Array): boolean => (container[0] ?? 0) >= COMPACT;

/** The same of a request's, which may have less in front of it. */
export const isCompactRequest = (container: Uint8Array): boolean =>
  isCompact(container) || isShort(container);

const isShort = ([first = 0]: Uint8Array): boolean => first >= FIRST_SHORT && first < END_OF_SHORT;

/** Whether only a reader with a model can open a request. */
export const needsModel = (container: Uint8Array): boolean =>
  isShort(container) || (isCompact(container) && ((container[0]! >> 5) & 3) >= FORMS.mixer);

/** Whether a request is in the form that both ends have learnt something for. */
export const isHistory = (container: Uint8Array): boolean =>
  isShort(container) || (isCompact(container) && ((container[0]! >> 5) & 3) === FORMS.history);

/** What `pack` was given, at most `maxBytes` long. */
export function unpack(container: Uint8Array, maxBytes: number): Result<Uint8Array, ContainerProblem> {
  const id = container[0];
  if (id === undefined) return bad({ kind: 'empty' });
  const rest = container.subarray(1);
  if (id === RAW) return asItIs(rest, maxBytes);
  return id === PLAIN_DICTIONARY ? inflated(rest, id, maxBytes) : bad({ kind: 'unknown format', id });
}

/** What a compact container holds: for a CompactReader. `blobs` are undefined where they are in their places. */
export interface Unpacked {
  readonly bytes: Uint8Array;
  readonly blobs: Uint8Array | undefined;
}

/** The parts of a container. */
export interface ContainerParts {
  /** What stands in front, without the blobs and their length. */
  readonly headBytes: number;
  /** 0: as it is, 1: Deflate, 2: model, 3: model and history. */
  readonly form: number;
  /** Of the dictionary or model; undefined: of the model with which the history began. */
  readonly id: number | undefined;
  /** The byte that names a history. */
  readonly generation: number;
  /** Undefined where they are in their places. */
  readonly blobs: Uint8Array | undefined;
  readonly packed: Uint8Array;
}

/** Takes a compact container apart; undefined where it is too short for what it says. */
export function partsOfContainer(container: Uint8Array): ContainerParts | undefined {
  if (isShort(container)) return partsOfShort(container);
  const first = container[0]!;
  const form = (first >> 5) & 3;
  const hasShortId = (first & MAX_SHORT_ID) !== 0;
  const id = hasShortId ? first & MAX_SHORT_ID : container[1];
  let at = hasShortId ? 1 : 2;
  const generation = form === FORMS.history ? container[at++] : 0;
  const blobs = (first & WITH_BLOBS) === 0 ? { bytes: undefined, end: at } : blobsAt(container, at);
  if (id === undefined || generation === undefined || blobs === undefined) return undefined;
  const packed = container.subarray(blobs.end);
  return { headBytes: at, form, id, generation, blobs: blobs.bytes, packed };
}

function partsOfShort(container: Uint8Array): ContainerParts | undefined {
  const code = container[0]! - FIRST_SHORT;
  const shape = Math.floor(code / SHORT_NAMES);
  const generation = byteOfShortName(code % SHORT_NAMES);
  const common = { form: FORMS.history, id: undefined, generation };
  if (shape === TOLD_SHAPE) {
    const end = 2 + (container[1] ?? container.length);
    if (end > container.length) return undefined;
    return { ...common, headBytes: 2, blobs: container.subarray(end), packed: container.subarray(2, end) };
  }
  const end = 1 + SHAPES[shape]!;
  if (end > container.length) return undefined;
  const blobs = end === 1 ? undefined : container.subarray(1, end);
  return { ...common, headBytes: 1, blobs, packed: container.subarray(end) };
}

/** What `packCompact` was given, at most `maxBytes` long. */
export function unpackCompact(
  container: Uint8Array,
  maxBytes: number,
  coders = NO_CODERS,
): Result<Unpacked, ContainerProblem> {
  const first = container[0];
  if (first === undefined) return bad({ kind: 'empty' });
  if (!isCompactRequest(container)) return bad({ kind: 'unknown format', id: first });
  const parts = partsOfContainer(container);
  if (parts === undefined) return bad({ kind: 'malformed' });
  const { form, blobs, packed } = parts;
  if ((blobs?.length ?? 0) > maxBytes) return bad({ kind: 'too large' });
  const opened = opener(parts, coders);
  if (!opened.ok) return opened;
  const bytes = opened.value(packed, Math.min(maxBytes, form === FORMS.raw ? maxBytes : mostBytes(packed)));
  return bytes.ok ? ok({ bytes: bytes.value, blobs }) : bytes;
}

type Opener = (bytes: Uint8Array, maxBytes: number) => Result<Uint8Array, ContainerProblem>;

function opener({ form, id, generation }: ContainerParts, coders: Coders): Result<Opener, ContainerProblem> {
  if (form === FORMS.history) {
    const coder = coders.learnt(id, generation);
    return coder === undefined ? bad({ kind: 'unknown history', generation }) : ok(openerWith(coder));
  }
  assert(id !== undefined, 'only histories go without an id');
  if (form === FORMS.mixer) {
    const coder = coders.coder(id);
    return coder === undefined ? bad({ kind: 'unknown model', id }) : ok(openerWith(coder));
  }
  if (id !== COMPACT_DICTIONARY) return bad({ kind: 'unknown format', id });
  return ok(form === FORMS.raw ? asItIs : (bytes, maxBytes) => inflated(bytes, id, maxBytes));
}

const openerWith =
  (coder: Coder): Opener =>
  (bytes, maxBytes) =>
    decoded(coder, bytes, maxBytes);

function blobsAt(
  container: Uint8Array,
  start: number,
): { readonly bytes: Uint8Array; readonly end: number } | undefined {
  let length = 0;
  for (let n = 0; n < MAX_VARINT_BYTES; n++) {
    const byte = container[start + n];
    if (byte === undefined) return undefined;
    length += (byte & 0x7f) * 0x80 ** n;
    if (byte >= 0x80) continue;
    const end = start + n + 1 + length;
    return end <= container.length ? { bytes: container.subarray(start + n + 1, end), end } : undefined;
  }
  return undefined;
}

/** How long the content of a container may be that is packed in that many bytes. */
const mostBytes = ({ length }: Uint8Array): number => Math.max(MAX_FREE_BYTES, length * MAX_RATIO);

function formHead(form: number, id: number): Uint8Array {
  const head = COMPACT | (form << 5);
  return id <= MAX_SHORT_ID ? Uint8Array.of(head | id) : Uint8Array.of(head, id);
}

function asItIs(content: Uint8Array, maxBytes: number): Result<Uint8Array, ContainerProblem> {
  return content.length <= maxBytes ? ok(content) : bad({ kind: 'too large' });
}

function inflated(
  bytes: Uint8Array,
  dictionary: DictionaryId,
  maxBytes: number,
): Result<Uint8Array, ContainerProblem> {
  const opened = inflate(bytes, DICTIONARIES[dictionary], maxBytes);
  return opened.ok ? opened : bad({ kind: opened.problem === 'too large' ? 'too large' : 'malformed' });
}

function decoded(coder: Coder, bytes: Uint8Array, maxBytes: number): Result<Uint8Array, ContainerProblem> {
  const content = coder.decode(bytes, maxBytes);
  if (!content.ok) return bad({ kind: content.problem === 'too large' ? 'too large' : 'malformed' });
  return asItIs(content.value, maxBytes);
}
