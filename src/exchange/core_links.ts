import { utf8 } from '../base/bytes.ts';
import { encodeLinks, filterLinks, type WebLink } from '../coap/link_format.ts';
import type { ExchangeResponse } from './response.ts';

/** Where a client looks that knows nothing of a server (RFC 6690, section 4). */
export const CORE_PATH = '/.well-known/core';

/**
 * The answer to a GET of that path: the links that the query asks for (RFC 6690, section 4.1).
 * @param query as in a URL: percent-encoded.
 */
export function coreResponse(links: readonly WebLink[], query: string): ExchangeResponse {
  const found = filterLinks(links, query === '' ? [] : query.split('&').map(decoded));
  const bytes = utf8(encodeLinks(found));
  return { status: 200, headers: {}, body: { kind: 'bytes', contentType: 'application/link-format', bytes } };
}

/** As it stands where it is not percent-encoded text: no link is like it then. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
