import type { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { contentDisposition } from '../homeserver/media/content_disposition.ts';
import { MatrixError } from '../matrix/error.ts';
import type { ByteRange, Sha256 } from '../storage/media_store.ts';
import { checkAnswerSize } from './answer_limit.ts';

/** Client-server API, "Content repository": what browsers are told, so that no file acts in our name. */
const SANDBOX = {
  'content-security-policy':
    "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; object-src 'self';",
  'cross-origin-resource-policy': 'cross-origin',
  'x-content-type-options': 'nosniff',
  // Behind an id there is always the same; but it may be taken away.
  'cache-control': 'private, max-age=86400',
} as const;

/** What may be answered with a file. */
export interface AnsweredFile {
  readonly sha256: Sha256;
  readonly size: number;
  readonly contentType: string;
  readonly fileName: string | null;
  open(range?: ByteRange): Promise<Readable>;
}

/**
 * Answers with a file, or a part of it (RFC 9110, sections 13 and 14; a single range), or says that the client has it.
 * @throws MatrixError M_TOO_LARGE where it does not go through the door
 */
export async function sendFile(
  request: FastifyRequest,
  reply: FastifyReply,
  file: AnsweredFile,
): Promise<FastifyReply> {
  const tag = `"${file.sha256}"`;
  const known = { ...SANDBOX, etag: tag, 'accept-ranges': 'bytes' };
  if (isKnown(request.headers['if-none-match'], tag)) return reply.code(304).headers(known).send();
  const ifRange = request.headers['if-range'];
  const range = ifRange === undefined || ifRange === tag ? rangeOf(request.headers.range, file.size) : 'all';
  if (range === 'none') {
    reply.header('content-range', `bytes */${file.size}`);
    throw new MatrixError(416, 'M_INVALID_PARAM', 'The file does not reach so far.');
  }
  const { start, end } = range === 'all' ? { start: 0, end: file.size - 1 } : range;
  checkAnswerSize(request, end - start + 1);
  const stream = await file.open(range === 'all' ? undefined : range);
  // Not before it is certain that this is what is answered: an error has other headers.
  if (range !== 'all') reply.code(206).header('content-range', `bytes ${start}-${end}/${file.size}`);
  return reply
    .headers({
      ...known,
      'content-type': file.contentType,
      'content-disposition': contentDisposition(file.contentType, file.fileName),
      'content-length': end - start + 1,
    })
    .send(stream);
}

/** RFC 9110, section 13.1.2. */
function isKnown(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false;
  return header.split(',').some((one) => one.trim() === '*' || one.trim().replace(/^W\//, '') === tag);
}

/** RFC 9110, section 14.2: what is no range of bytes, or several, is as if nothing was asked. */
function rangeOf(header: string | undefined, size: number): ByteRange | 'all' | 'none' {
  const [, first = '', last = ''] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? '') ?? [];
  if (first === '' && last === '') return 'all';
  if (first === '') {
    const length = Math.min(Number(last), size);
    return length === 0 ? 'none' : { start: size - length, end: size - 1 };
  }
  const start = Number(first);
  if (last !== '' && Number(last) < start) return 'all';
  if (start >= size) return 'none';
  return { start, end: last === '' ? size - 1 : Math.min(Number(last), size - 1) };
}
