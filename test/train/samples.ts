import type { Form } from '../../src/compact/mixer/contexts.ts';

/**
 * What a sample's contexts are worth. Precious: even what occurs in it only once may be kept. Common: of a source so large
 * that what is not frequent in it would crowd out everything else.
 */
export const WORTHS = ['common', 'usual', 'precious'] as const;
export type Worth = (typeof WORTHS)[number];

/** A message to train on. */
export interface Sample {
  readonly bytes: Uint8Array;
  readonly form: Form;
  readonly worth: Worth;
}
