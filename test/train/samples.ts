/** A message to train on. */
export interface Sample {
  readonly bytes: Uint8Array;
  /** Whether it is CBOR. */
  readonly structured: boolean;
  /** Whether even what occurs only once in it is worth keeping. */
  readonly precious: boolean;
}
