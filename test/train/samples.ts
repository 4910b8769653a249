import type { Form } from '../../src/compact/mixer/contexts.ts';

/** A message to train on. */
export interface Sample {
  readonly bytes: Uint8Array;
  readonly form: Form;
  /** Whether even what occurs only once in it is worth keeping. */
  readonly precious: boolean;
}
