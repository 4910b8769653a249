/** A CoAP code: three bits of class and five of detail (RFC 7252, section 3). `code(2, 5)` is 2.05. */
export const code = (codeClass: number, detail: number): number => (codeClass << 5) | detail;

export const codeClass = (value: number): number => value >> 5;

/** 0.00: an empty message. */
export const EMPTY = 0;

/** RFC 7252, section 12.1.1, and RFC 8132. */
export const METHOD = { get: 1, post: 2, put: 3, delete: 4, fetch: 5, patch: 6, ipatch: 7 } as const;

const METHOD_NAMES = ['GET', 'POST', 'PUT', 'DELETE', 'FETCH', 'PATCH', 'iPATCH'] as const;

/** RFC 7252, section 12.1.2; RFC 7959, section 2.9; RFC 8132; RFC 8516; RFC 8768. */
const RESPONSE_NAMES: ReadonlyMap<number, string> = new Map([
  [code(2, 1), 'Created'],
  [code(2, 2), 'Deleted'],
  [code(2, 3), 'Valid'],
  [code(2, 4), 'Changed'],
  [code(2, 5), 'Content'],
  [code(2, 31), 'Continue'],
  [code(4, 0), 'Bad Request'],
  [code(4, 1), 'Unauthorized'],
  [code(4, 2), 'Bad Option'],
  [code(4, 3), 'Forbidden'],
  [code(4, 4), 'Not Found'],
  [code(4, 5), 'Method Not Allowed'],
  [code(4, 6), 'Not Acceptable'],
  [code(4, 8), 'Request Entity Incomplete'],
  [code(4, 9), 'Conflict'],
  [code(4, 12), 'Precondition Failed'],
  [code(4, 13), 'Request Entity Too Large'],
  [code(4, 15), 'Unsupported Content-Format'],
  [code(4, 22), 'Unprocessable Entity'],
  [code(4, 29), 'Too Many Requests'],
  [code(5, 0), 'Internal Server Error'],
  [code(5, 1), 'Not Implemented'],
  [code(5, 2), 'Bad Gateway'],
  [code(5, 3), 'Service Unavailable'],
  [code(5, 4), 'Gateway Timeout'],
  [code(5, 5), 'Proxying Not Supported'],
  [code(5, 8), 'Hop Limit Reached'],
]);

/** Whether the code is a method, known to us or not: 0.01 to 0.31. */
export const isRequest = (value: number): boolean => value > EMPTY && codeClass(value) === 0;

/** Whether the code is a response: class 2, 4 or 5. The classes 1, 3, 6 and 7 are reserved. */
export const isResponse = (value: number): boolean => [2, 4, 5].includes(codeClass(value));

export const isSuccess = (value: number): boolean => codeClass(value) === 2;

export const isKnownMethod = (value: number): boolean => value >= 1 && value <= METHOD_NAMES.length;

/** Methods that ask for nothing to change, so that asking again is harmless (RFC 7252, section 5.1). */
export const isSafe = (value: number): boolean => value === METHOD.get || value === METHOD.fetch;

/** `GET` for a method, `2.05` for everything else: short, for traces. */
export const codeLabel = (value: number): string =>
  METHOD_NAMES[value - 1] ?? `${codeClass(value)}.${String(value & 0x1f).padStart(2, '0')}`;

/** `GET` for a method, `2.05 Content` for a response; just the number where it has no name. */
export function codeName(value: number): string {
  const name = RESPONSE_NAMES.get(value);
  return name === undefined ? codeLabel(value) : `${codeLabel(value)} ${name}`;
}
