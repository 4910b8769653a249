/** Where a secret is: table, column, and what names the row. */
export type SecretPlace = readonly [table: string, column: string, ...row: (string | number)[]];

/**
 * How secrets are kept in the database: as they are, or sealed by a key that is not in it. What is sealed for one place
 * opens at no other, so that rows cannot take each other's place.
 */
export interface Sealing {
  seal(place: SecretPlace, secret: Uint8Array): Uint8Array;
  /** @throws SealingError where that was not sealed for this place by this key */
  open(place: SecretPlace, kept: Uint8Array): Uint8Array;
}

/** Secrets that cannot be had; an operator has to do something. The message says what. */
export class SealingError extends Error {
  override name = 'SealingError';
}

/** Secrets as they are. SQLite hands out Buffers; what is opened is an array of its own. */
export const IN_CLEAR: Sealing = {
  seal: (_place, secret) => secret,
  open: (_place, kept) => new Uint8Array(kept),
};

/** A table with secrets, the columns that have them, and those that name a row. */
interface SecretTable {
  readonly table: string;
  readonly row: readonly string[];
  readonly secrets: readonly string[];
}

/** Everything in the database that is to be sealed. */
export const SECRET_TABLES: readonly SecretTable[] = [
  { table: 'own_keys', row: ['purpose', 'key_id'], secrets: ['secret'] },
  { table: 'pipe_sessions', row: ['link', 'local_id'], secrets: ['send_secret', 'receive_secret'] },
];
