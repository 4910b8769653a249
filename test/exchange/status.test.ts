import { describe, expect, test } from 'vitest';
import { codeOf, isStatus, statusOf } from '../../src/exchange/status.ts';

/** Every status that the Matrix specification's operations and error codes name, and those that servers also send. */
const MATRIX_STATUSES = [
  ...[
    200, 201, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 414, 415, 422, 429,
  ],
  ...[500, 501, 502, 503, 504, 520],
];
const METHODS = ['GET', 'PUT', 'POST', 'DELETE', 'PATCH'];

describe('a status', () => {
  test.each(MATRIX_STATUSES)('%i is told by its code, or the code says that it does not tell', (status) => {
    for (const method of METHODS) {
      const { code, exact } = codeOf(status, method);
      if (exact) expect(statusOf(code)).toBe(status);
      // Even where the number is lost on a peer, success stays success and failure stays failure.
      expect([2, 4, 5]).toContain(code >> 5);
      expect(code >> 5 === 2).toBe(status < 300 || status === 304);
    }
  });

  test('of any kind keeps its side of the line between client and server', () => {
    for (let status = 400; status < 600; status++)
      expect(codeOf(status, 'GET').code >> 5).toBe(Math.floor(status / 100));
  });

  test.each([
    [200, 'GET', '2.05'],
    [200, 'PUT', '2.04'],
    [200, 'POST', '2.04'],
    [200, 'DELETE', '2.02'],
    [401, 'GET', '4.01'],
    [403, 'GET', '4.03'],
    [404, 'GET', '4.04'],
    [409, 'GET', '4.09'],
    [413, 'PUT', '4.13'],
    [425, 'PUT', '4.25'],
    [429, 'GET', '4.29'],
    [503, 'GET', '5.03'],
    [302, 'GET', '4.04'],
    [408, 'GET', '4.00'],
    [520, 'GET', '5.00'],
  ])('%i of a %s is %s', (status, method, expected) => {
    const { code } = codeOf(status, method);
    expect(`${code >> 5}.${String(code & 31).padStart(2, '0')}`).toBe(expected);
  });
});

describe('a code', () => {
  test('of any answer stands for a status, and no other code does', () => {
    for (let code = 0; code < 256; code++) {
      const status = statusOf(code);
      const major = code >> 5;
      if (major !== 2 && major !== 4 && major !== 5) expect(status).toBeUndefined();
      else expect(isStatus(status!)).toBe(true);
    }
  });

  test('that HTTP has not stands for the first status of its class', () => {
    expect(statusOf((4 << 5) | 2)).toBe(400);
    expect(statusOf((4 << 5) | 8)).toBe(400);
    expect(statusOf((5 << 5) | 5)).toBe(500);
    expect(statusOf((2 << 5) | 31)).toBe(200);
  });
});
