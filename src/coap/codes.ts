/** A CoAP code: three bits of class and five of detail (RFC 7252, section 3). `code(2, 5)` is 2.05. */
export const code = (codeClass: number, detail: number): number => (codeClass << 5) | detail;

export const codeClass = (value: number): number => value >> 5;

/** 0.00: an empty message. */
export const EMPTY = 0;

/** 2.31: more blocks are expected (RFC 7959, section 2.9.1). */
export const CONTINUE = code(2, 31);

/** RFC 7252, section 12.1.1, and RFC 8132. */
export const METHOD = { get: 1, post: 2, put: 3, delete: 4, fetch: 5, patch: 6, ipatch: 7 } as const;

const METHOD_NAMES = ['GET', 'POST', 'PUT', 'DELETE', 'FETCH', 'PATCH', 'iPATCH'] as const;

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
