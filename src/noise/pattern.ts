export type Role = 'initiator' | 'responder';

/** `e` and `s` send a public key; the others mix a Diffie-Hellman of the initiator's (first) and responder's key. */
export type Token = 'e' | 's' | 'ee' | 'es' | 'se' | 'ss';

/** A handshake pattern (Noise revision 34, section 7) as data. */
export interface Pattern {
  readonly name: string;
  /** Public keys that the other side knows before the first message, hashed in this order. */
  readonly before: readonly { readonly by: Role; readonly token: 'e' | 's' }[];
  readonly messages: readonly { readonly by: Role; readonly tokens: readonly Token[] }[];
}

/** Both static keys are sent (section 7.5): first contact. */
export const XX: Pattern = {
  name: 'XX',
  before: [],
  messages: [
    { by: 'initiator', tokens: ['e'] },
    { by: 'responder', tokens: ['e', 'ee', 's', 'es'] },
    { by: 'initiator', tokens: ['s', 'se'] },
  ],
};

/** The initiator knows the responder's static key (section 7.5): one round trip. */
export const IK: Pattern = {
  name: 'IK',
  before: [{ by: 'responder', token: 's' }],
  messages: [
    { by: 'initiator', tokens: ['e', 'es', 's', 'ss'] },
    { by: 'responder', tokens: ['e', 'ee', 'se'] },
  ],
};
