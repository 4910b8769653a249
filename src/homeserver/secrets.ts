import { createHash } from 'node:crypto';
import { base64url } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';

const TOKEN_BYTES = 32;

/** A new token that nobody guesses. */
export const newToken = (random: Random): string => base64url(random.bytes(TOKEN_BYTES));

/** How tokens are stored: whoever reads the database can show nothing with what is there. */
export const hashOf = (token: string): Uint8Array => createHash('sha256').update(token).digest();
