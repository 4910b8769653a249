import { code, codeClass } from '../coap/codes.ts';

const CREATED = code(2, 1);
const DELETED = code(2, 2);
const CHANGED = code(2, 4);
const CONTENT = code(2, 5);
const BAD_REQUEST = code(4, 0);
const NOT_FOUND = code(4, 4);
const INTERNAL_SERVER_ERROR = code(5, 0);

/**
 * Statuses for which CoAP has a code of the same meaning (RFC 7252, section 5.9; 4.09 and 4.22: RFC 8132; 4.29:
 * RFC 8516). 408 is not among them: CoAP's 4.08 is about blocks that are missing.
 */
const OWN_CODES: Readonly<Record<number, number>> = {
  201: CREATED,
  304: code(2, 3),
  400: BAD_REQUEST,
  401: code(4, 1),
  403: code(4, 3),
  404: NOT_FOUND,
  405: code(4, 5),
  406: code(4, 6),
  409: code(4, 9),
  412: code(4, 12),
  413: code(4, 13),
  415: code(4, 15),
  422: code(4, 22),
  // RFC 8470, section 5.2, and RFC 9175's table of codes.
  425: code(4, 25),
  429: code(4, 29),
  500: INTERNAL_SERVER_ERROR,
  501: code(5, 1),
  502: code(5, 2),
  503: code(5, 3),
  504: code(5, 4),
};

const STATUSES: ReadonlyMap<number, number> = new Map([
  ...Object.entries(OWN_CODES).map(([status, own]) => [own, Number(status)] as const),
  [DELETED, 200],
  [CHANGED, 200],
  [CONTENT, 200],
]);

/** Whether an exchange carries this status: everything but HTTP's interim answers. */
export const isStatus = (status: number): boolean =>
  Number.isInteger(status) && status >= 200 && status <= 599;

/**
 * The CoAP code of an answer with an HTTP status to a request with `method`, and whether the code alone tells the
 * status; where it does not, the status has to travel beside it. Without it a redirection reads as "not here" and
 * everything else as the first code of its class.
 */
export function codeOf(status: number, method: string): { readonly code: number; readonly exact: boolean } {
  if (status === 200) return { code: success(method), exact: true };
  const own = OWN_CODES[status];
  if (own !== undefined) return { code: own, exact: true };
  if (status < 300) return { code: success(method), exact: false };
  if (status < 400) return { code: NOT_FOUND, exact: false };
  return { code: status < 500 ? BAD_REQUEST : INTERNAL_SERVER_ERROR, exact: false };
}

/** The HTTP status that a CoAP code stands for where none travels beside it; undefined where it is not an answer. */
export function statusOf(coapCode: number): number | undefined {
  const known = STATUSES.get(coapCode);
  if (known !== undefined) return known;
  const major = codeClass(coapCode);
  return major === 2 ? 200 : major === 4 ? 400 : major === 5 ? 500 : undefined;
}

/** RFC 7252, section 5.8: what succeeds with a PUT or POST changes, with a DELETE deletes. */
function success(method: string): number {
  if (method === 'GET') return CONTENT;
  return method === 'DELETE' ? DELETED : CHANGED;
}
