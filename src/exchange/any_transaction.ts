import type { MessageId } from '../base/message_id.ts';
import { ANY_TRANSACTION } from '../compact/text_forms.ts';
import type { ExchangeRequest } from './request.ts';

const RADIX = 36;

/** Paths whose last segment is a transaction id, where that is ANY_TRANSACTION. */
const PATHS = [
  '/_matrix/client/[^/]+/rooms/[^/]+/send/[^/]+',
  '/_matrix/client/[^/]+/rooms/[^/]+/redact/[^/]+',
  '/_matrix/client/[^/]+/sendToDevice/[^/]+',
  '/_matrix/federation/[^/]+/send',
].map((path) => new RegExp(`^${path}/${ANY_TRANSACTION}$`));

/** Whether a request leaves its transaction id to whoever reads it. */
export const isAnyTransaction = ({ method, path }: ExchangeRequest): boolean =>
  method === 'PUT' && PATHS.some((one) => one.test(path));

/** The same with a transaction id. */
export const withTransaction = (request: ExchangeRequest, id: string): ExchangeRequest => ({
  ...request,
  path: request.path.slice(0, -ANY_TRANSACTION.length) + id,
});

/**
 * The transaction id that a request has by its name: no other message of its sender has it.
 * @param link names are of one link
 */
export function transactionOf({ generation, number }: MessageId, link: string | undefined): string {
  const id = `${ANY_TRANSACTION}${generation.toString(RADIX)}.${number.toString(RADIX)}`;
  return link === undefined ? id : `${id}.${encodeURIComponent(link)}`;
}
