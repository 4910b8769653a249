import type { Result } from '../../base/result.ts';
import { codeClass, isRequest } from '../../coap/codes.ts';
import type { Message } from '../../coap/message.ts';
import { OPTION } from '../../coap/options.ts';
import { decodeByteStringAt, decodeJsonAt, isByteString } from '../../compact/cbor.ts';
import {
  type Coders,
  type ContainerProblem,
  isCompact,
  isCompactRequest,
  partsOfContainer,
  type Unpacked,
  unpack,
  unpackCompact,
} from '../../compact/container.ts';
import type { CompactContext } from '../../compact/context.ts';
import { readTarget, type Target } from '../../compact/target.ts';
import { CompactReader } from '../../compact/value_reader.ts';
import { isBareAnswer, isPackedByItself, MAX_UNPACKED_BYTES } from '../../exchange/pipe_codec.ts';
import { PAYLOAD_MARKER, plainPayload } from './coap_parts.ts';
import { bareAnswerParts, formParts } from './form_parts.ts';
import { type Layer, layer, type Part, short } from './parts.ts';

/** What a content is read with. */
export interface Reading {
  readonly context: CompactContext;
  readonly coders: Coders;
  /** Of an answer: what it answers, where that was seen. */
  readonly request?: Target;
  /** The content of a request has been opened. */
  understood(target: Target): void;
}

// docs/protocol.md, "Containers" and "Content".
const FORMS = ['as it is', 'Deflate', 'model', 'model and history'] as const;
const PACKED = 1;
const FORMED_BODY = 0xfe;
const BYTES_BODY = 0xff;
/** A JSON object begins with this byte, or a higher one. */
const FIRST_OBJECT_BYTE = 0xa0;
const OK = 200;

const BLOCKS: ReadonlySet<number> = new Set([OPTION.block1, OPTION.block2, OPTION.qBlock1, OPTION.qBlock2]);

/** Keys of bodies whose values are secrets of users. */
const SECRETS: ReadonlySet<string> = new Set([
  'password',
  'new_password',
  'token',
  'access_token',
  'refresh_token',
  'login_token',
  'client_secret',
  'session_key',
]);

/**
 * The payload of a message in a record: a container, or a part of one.
 * @param marker what stands in front of it
 */
export function payloadLayers(
  message: Message,
  reading: Reading,
  marker: Part = PAYLOAD_MARKER,
): readonly Layer[] {
  const { code, options, payload } = message;
  if (options.some(({ number }) => BLOCKS.has(number)))
    return [layer('payload', [marker, part('part of a body', short(payload), payload.length)])];
  if (codeClass(code) === 2 && (code & 31) === 31)
    return [layer('payload', [marker, part('what is missing', short(payload), payload.length)])];
  // What is refused is told in JSON.
  const answered = codeClass(code) === 2 ? reading.request : undefined;
  return (
    containerLayers(payload, { hasTarget: isRequest(code), answered }, reading, marker) ??
    plainPayload(message, marker)
  );
}

const part = (name: string, value: string, bytes: number): Part => ({ name, value, bytes });

/** What a payload is of. */
interface Said {
  readonly hasTarget: boolean;
  /** The request, of an answer of success to one that was seen. */
  readonly answered: Target | undefined;
}

/** The layers of a container with the marker in front of it; undefined: it is none. */
function containerLayers(
  payload: Uint8Array,
  said: Said,
  reading: Reading,
  marker: Part,
): readonly Layer[] | undefined {
  if (isPackedByItself(payload) && isBare(payload[0]!, said.answered))
    return [layer('payload', [marker]), layer('body', bareAnswerParts(said.answered, payload))].filter(
      hasBytes,
    );
  const isCompactForm = said.hasTarget ? isCompactRequest(payload) : isCompact(payload);
  const head = isCompactForm ? compactHead(payload) : plainHead(payload);
  if (head === undefined) return undefined;
  const { parts, packing, isPacked } = head;
  const rest = payload.length - parts.reduce((sum, { bytes }) => sum + bytes, 0);
  const opened = isCompactForm
    ? unpackCompact(payload, MAX_UNPACKED_BYTES, reading.coders)
    : plainOpened(payload);
  if (!opened.ok) {
    const closed = part(`content, ${packing}`, problemText(opened.problem), rest);
    return [layer('container', [marker, ...parts, closed])];
  }
  const content = isCompactForm
    ? compactContent(opened.value, said, reading)
    : plainContent(opened.value.bytes, said.hasTarget);
  if (!isPacked)
    return [
      layer('container', [marker, ...parts]),
      layer('target', content.filter(isTarget)),
      layer(
        'body',
        content.filter((one) => !isTarget(one)),
      ),
    ].filter(hasBytes);
  const length = opened.value.bytes.length;
  const packed: Part = {
    ...part(`content, ${packing}`, `${length} B unpacked`, rest),
    inside: content,
    insideBytes: length,
  };
  return [layer('container', [marker, ...parts, packed])];
}

const hasBytes = ({ bytes }: Layer): boolean => bytes > 0;

const isTarget = ({ name }: Part): boolean => name === 'target';

interface Head {
  readonly parts: readonly Part[];
  readonly packing: string;
  readonly isPacked: boolean;
}

function plainHead([id]: Uint8Array): Head | undefined {
  if (id === undefined || id > 1) return undefined;
  const packing = id === 0 ? 'as it is' : 'Deflate';
  return { parts: [part('format', `plain form, ${packing}`, 1)], packing, isPacked: id === 1 };
}

function compactHead(payload: Uint8Array): Head | undefined {
  const found = partsOfContainer(payload);
  if (found === undefined) return undefined;
  const { headBytes, form, id, blobs, packed } = found;
  const packing = form <= PACKED || id === undefined ? FORMS[form]! : `${FORMS[form]} ${id}`;
  const parts = [part('format', `compact form, ${packing}`, headBytes)];
  const lengthBytes = payload.length - headBytes - packed.length - (blobs?.length ?? 0);
  if (blobs !== undefined) {
    if (lengthBytes > 0) parts.push(part('length of the blobs', String(blobs.length), lengthBytes));
    parts.push(part('blobs', short(blobs), blobs.length));
  }
  return { parts, packing, isPacked: form >= PACKED };
}

function plainOpened(payload: Uint8Array): Result<Unpacked, ContainerProblem> {
  const opened = unpack(payload, MAX_UNPACKED_BYTES);
  return opened.ok ? { ok: true, value: { bytes: opened.value, blobs: undefined } } : opened;
}

function problemText(problem: ContainerProblem): string {
  switch (problem.kind) {
    case 'unknown format':
      return `not opened: ${problem.id} is not known here`;
    case 'unknown history':
      return 'not opened: what both ends have learnt is not known here';
    default:
      return `not opened: ${problem.kind}`;
  }
}

/** Names each part after what it is in a request or an answer; together they are the whole content. */
function compactContent({ bytes, blobs }: Unpacked, { hasTarget, answered }: Said, reading: Reading): Part[] {
  const reader = new CompactReader(bytes, 0, reading.context, blobs);
  const parts: Part[] = [];
  let before = 0;
  const push = (name: string, value: string, end = reader.at): void => {
    const at = Math.min(end, bytes.length);
    if (at > before) parts.push(part(name, value, at - before));
    before = Math.max(before, at);
  };
  const failed = (): Part[] => {
    push('not understood', problemOf(reader), bytes.length);
    return parts;
  };
  const target = hasTarget ? readTarget(reader) : undefined;
  if (hasTarget) {
    if (target === undefined) return failed();
    push('target', `${target.method} ${target.path}${target.query === '' ? '' : `?${target.query}`}`);
    reading.understood(target);
  }
  const first = bytes[reader.at];
  if (first === undefined) return parts;
  if (isBare(first, answered)) {
    parts.push(...bareAnswerParts(answered, bytes));
  } else if (first === FORMED_BODY) {
    const more = formParts({ target, answered }, { bytes, blobs }, reader.at + 1, reading.context);
    if (more === undefined) push('body', 'in a form of its route', bytes.length);
    else {
      const inFront = more.blobs === '' ? '' : ` (in front: ${more.blobs})`;
      push('body', `in a form of its route${inFront}:`, reader.at + 1);
      parts.push(...more.parts);
    }
  } else if (first === BYTES_BODY) {
    push('body', 'a media type and bytes', bytes.length);
  } else {
    const value = reader.value();
    if (value === undefined) return failed();
    push('body', valueText(value));
    push('left over', 'nothing is known of it', bytes.length);
  }
  return parts;
}

/** Whether the body of an answer is in a form that nothing stands in front of. */
const isBare = (first: number, request: Target | undefined): request is Target =>
  first < FIRST_OBJECT_BYTE && request !== undefined && isBareAnswer(request, OK);

const problemOf = ({ problem = 'truncated' }: CompactReader): string =>
  typeof problem === 'string' ? problem : problem.kind;

function plainContent(bytes: Uint8Array, hasTarget: boolean): Part[] {
  const parts: Part[] = [];
  let at = 0;
  if (hasTarget) {
    const target = decodeJsonAt(bytes, 0);
    if (!target.ok) return [part('not understood', target.problem, bytes.length)];
    at = target.value.end;
    parts.push(part('target', typeof target.value.value === 'string' ? target.value.value : 'no text', at));
  }
  if (at === bytes.length) return parts;
  const body = isByteString(bytes, at) ? decodeByteStringAt(bytes, at) : decodeJsonAt(bytes, at);
  const value = body.ok ? body.value : undefined;
  const end = value?.end ?? at;
  if (value !== undefined)
    parts.push(part('body', value.value instanceof Uint8Array ? 'bytes' : valueText(value.value), end - at));
  if (end < bytes.length)
    parts.push(
      part(
        value === undefined ? 'not understood' : 'media type',
        short(bytes.subarray(end)),
        bytes.length - end,
      ),
    );
  return parts;
}

const valueText = (value: unknown): string =>
  JSON.stringify(value, (key, inner: unknown) => (SECRETS.has(key) ? '(not shown)' : inner));
