/** What the two sides of a session have agreed in its handshake (docs/protocol.md, "Negotiation"). */
export interface Agreement {
  /** CoAP's headers are compressed inside records, and packet numbers are message ids. */
  readonly compactHeader: boolean;
  /** The longest datagram that the peer can take, in bytes; null: it has said nothing. */
  readonly mtu: number | null;
  /** What the peer can take in a second, in bits; null: it has said nothing. */
  readonly rate: number | null;
  /** Requests that the peer wants to have open at a time; null: it has said nothing. */
  readonly parallelism: number | null;
  /** Ids of the dictionaries and models that both have, the sender's best first. */
  readonly dictionaries: readonly number[];
}

/** With a peer that knows of no negotiation. */
export const NOTHING_AGREED: Agreement = {
  compactHeader: false,
  mtu: null,
  rate: null,
  parallelism: null,
  dictionaries: [],
};
