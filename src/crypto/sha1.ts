import { createHmac, hash } from 'node:crypto';

/**
 * SHA-1 (FIPS 180-4) of a text's UTF-8, in hexadecimal. Only to sort by, as state resolution of room version 1 asks for
 * it: nothing may rely on two texts having different ones.
 */
export const sha1Hex = (text: string): string => hash('sha1', text, 'hex');

/** HMAC-SHA-1 (RFC 2104) in padded base64, as TURN servers ask for it. Collisions do not weaken it. */
export const hmacSha1 = (key: string, message: string): string =>
  createHmac('sha1', key).update(message).digest('base64');
