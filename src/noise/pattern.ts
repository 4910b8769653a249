export type Role = 'initiator' | 'responder';

/**
 * `e` and `s` send a public key; `psk` mixes a pre-shared key; the others mix a Diffie-Hellman of the initiator's (first)
 * and the responder's key.
 */
export type Token = 'e' | 's' | 'ee' | 'es' | 'se' | 'ss' | 'psk';

/** A handshake pattern (Noise revision 34, section 7) as data. */
export interface Pattern {
  readonly name: string;
  /** Public keys that the other side knows before the first message, hashed in this order. */
  readonly before: readonly { readonly by: Role; readonly token: 'e' | 's' }[];
  readonly messages: readonly MessagePattern[];
}

interface MessagePattern {
  readonly by: Role;
  readonly tokens: readonly Token[];
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

/**
 * What is left of XX where the initiator's first message (the ephemeral key at the start of an IK message that could not
 * be read) has already been sent: the responder goes on from it (section 10.2). Roles and directions stay XX's.
 */
export const XXfallback: Pattern = {
  name: 'XXfallback',
  before: [{ by: 'initiator', token: 'e' }],
  messages: XX.messages.slice(1),
};

/**
 * The pattern with pre-shared keys: `psk` at the start of the first message (place 0) or at the end of the n-th
 * (place n; section 9.4). The keys are given in that order.
 */
export function withPsk(pattern: Pattern, ...places: readonly number[]): Pattern {
  const messages = pattern.messages.map(({ by, tokens }, index) => ({
    by,
    tokens: [
      ...(index === 0 && places.includes(0) ? (['psk'] as const) : []),
      ...tokens,
      ...(places.includes(index + 1) ? (['psk'] as const) : []),
    ],
  }));
  const modifiers = places.map((place) => `psk${place}`).join('+');
  // A modifier behind another one is set apart from it (section 8); a pattern's own name is in capitals.
  const isModified = pattern.name !== pattern.name.toUpperCase();
  return { ...pattern, name: `${pattern.name}${isModified ? '+' : ''}${modifiers}`, messages };
}
