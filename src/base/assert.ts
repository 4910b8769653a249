/** Stops at a mistake of our own. What a peer or a user can cause is a value or a MatrixError instead. */
export function assert(condition: unknown, sentence: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${sentence}`);
}
