import { assert } from '../base/assert.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { UNSIGNED } from '../compact/cbor_bytes.ts';
import type { Unpacked } from '../compact/container.ts';
import type { CompactContext } from '../compact/context.ts';
import { readTarget, type Target, writeTarget } from '../compact/target.ts';
import { type CompactProblem, problemOf } from '../compact/value.ts';
import { CompactReader } from '../compact/value_reader.ts';
import { type CompactContent, CompactWriter } from '../compact/value_writer.ts';
import { MatrixError } from '../matrix/error.ts';
import { formatName, formatNumber } from './content_format.ts';
import type { Body } from './request.ts';

/** CBOR's "break", which no value begins with: bytes of a media type follow. */
const BYTES_BODY = 0xff;
/** Reserved in CBOR, so that no value begins with it either: a form of the application follows. */
const FORMED_BODY = 0xfe;
/** A JSON object begins with this byte, or a higher one. */
const FIRST_OBJECT_BYTE = 0xa0;

/**
 * What a container holds in the compact form; its parts share names and times:
 *
 *     request  = target [body]      target: `compact/target.ts`
 *     answer   = [body]
 *     body     = value  /  0xff, media type, the bytes up to the end  /  0xfe, what a form has written up to the end
 *     media type = unsigned: CoAP Content-Format  /  text
 */
export function encodeCompactParts(
  context: CompactContext,
  target: Target | undefined,
  body: Body | undefined,
): CompactContent {
  const writer = new CompactWriter(context);
  if (target !== undefined) writeTarget(writer, target);
  if (body?.kind === 'json') writer.last(body.value);
  const isBare = body?.kind === 'formed' && body.bare === true && target === undefined;
  if (body?.kind === 'formed') {
    if (!isBare) writer.byte(FORMED_BODY);
    body.write(writer);
  }
  assert(body?.kind !== 'compact', 'what a peer has formed is not passed on');
  if (body?.kind === 'bytes') {
    writer.byte(BYTES_BODY);
    const number = formatNumber(body.contentType);
    if (number === undefined) writer.item(body.contentType);
    else writer.head(UNSIGNED, number);
    writer.raw(body.bytes);
  }
  const content = writer.content();
  assert(!isBare || looksBare(content), 'a bare answer says that it is formed');
  return content;
}

const looksBare = ({ bytes }: Pick<CompactContent, 'bytes'>): boolean => (bytes[0] ?? 0) < FIRST_OBJECT_BYTE;

/** Whether an answer has been formed and nothing was written for it. */
export const isNothing = (body: Body, { bytes }: CompactContent): boolean =>
  body.kind === 'formed' && bytes.length === (body.bare ? 0 : 1);

/** The problem is the answer that the peer gets. */
export function decodeCompactRequest(
  { bytes, blobs }: Unpacked,
  context: CompactContext,
): Result<{ readonly target: Target; readonly body: Body | undefined }, MatrixError> {
  const reader = new CompactReader(bytes, 0, context, blobs);
  const target = readTarget(reader);
  if (target === undefined) return bad(errorOf(problemOf(reader)));
  const body = readBody(reader);
  return body.ok ? ok({ target, body: body.value }) : bad(errorOf(body.problem));
}

/** @param mayBeBare whether a body that does not begin like an object is a form */
export function decodeCompactAnswer(
  { bytes, blobs }: Unpacked,
  context: CompactContext,
  mayBeBare: boolean,
): Result<Body | undefined> {
  const reader = new CompactReader(bytes, 0, context, blobs);
  if (mayBeBare && looksBare({ bytes })) return ok({ kind: 'compact', reader });
  const body = readBody(reader);
  return body.ok ? body : bad(body.problem.kind === 'malformed' ? body.problem.reason : body.problem.kind);
}

function readBody(reader: CompactReader): Result<Body | undefined, CompactProblem> {
  if (reader.atEnd) return ok(undefined);
  if (reader.bytes[reader.at] === BYTES_BODY) {
    reader.at++;
    const contentType = readContentType(reader);
    if (contentType === undefined) return bad(problemOf(reader));
    const bytes = reader.bytes.subarray(reader.at);
    reader.at = reader.bytes.length;
    return reader.atEnd ? ok({ kind: 'bytes', contentType, bytes }) : bad(LEFT_OVER);
  }
  if (reader.bytes[reader.at] === FORMED_BODY) {
    reader.at++;
    return ok({ kind: 'compact', reader });
  }
  const value = reader.value();
  if (value === undefined) return bad(problemOf(reader));
  if (!reader.atEnd) return bad(LEFT_OVER);
  return ok({ kind: 'json', value });
}

const LEFT_OVER = { kind: 'malformed', reason: 'trailing bytes' } as const;

function readContentType(reader: CompactReader): string | undefined {
  if ((reader.bytes[reader.at] ?? 0) >> 5 !== UNSIGNED) return reader.item();
  const number = reader.argument();
  return number === undefined ? undefined : (formatName(number) ?? reader.fail('unknown text'));
}

/** The errcode of `missingHere`. */
export const UNKNOWN_HERE = 'ORG_RAVINE_UNKNOWN_HANDLE';

/** What a peer is told that has named something that is not known here: the same again, without such names, is read. */
export const missingHere = (what: string): MatrixError =>
  new MatrixError(422, UNKNOWN_HERE, `What the message refers to is not known here: ${what}`);

function errorOf(problem: CompactProblem): MatrixError {
  if (problem.kind !== 'malformed') return missingHere(problem.kind);
  if (problem.reason === 'too large') return new MatrixError(413, 'M_TOO_LARGE', 'The request is too large');
  return new MatrixError(400, 'M_NOT_JSON', `The payload cannot be read: ${problem.reason}`);
}
