/**
 * What makes contents of the compact form shorter, each of which a side may leave out: what it writes is read all the same. For
 * measurements of what each is worth.
 */
export interface Layers {
  /** Deflate with a preset dictionary. */
  readonly flate: boolean;
  /** The mixer's models, and what they have learnt of a room. */
  readonly models: boolean;
  /** Small numbers for ids, and transaction ids that cost nothing. */
  readonly handles: boolean;
  /** Bodies in a form of their route, events among them. */
  readonly forms: boolean;
}

export const ALL_LAYERS: Layers = { flate: true, models: true, handles: true, forms: true };
