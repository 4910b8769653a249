import { watchSeals } from '../seals.ts';

/** What holds whatever the network and the attacker do. */
export type Invariant =
  | 'no key and nonce twice'
  | 'nothing forged is delivered'
  | 'nothing is delivered twice'
  | 'an id names one message, and a message has one id'
  | 'an answer reaches what it answers'
  | 'nothing changes by what is forged'
  | 'no address gets more than three times what came from it'
  | 'every session heals in a bounded number of round trips'
  | 'everything stays within its bound';

/** An invariant that does not hold. The message begins with it. */
export class Violation extends Error {
  constructor(invariant: Invariant, details: string) {
    super(`${invariant}: ${details}`);
  }
}

export function hold(invariant: Invariant, holds: boolean, details: () => string): void {
  if (!holds) throw new Violation(invariant, details());
}

/** Watches the cipher itself, whoever uses it: a recorder that no endpoint can lose or reset. */
export const seals = watchSeals();

/** What has happened in all runs. None of these may be zero at the end, or the runs have not tried it. */
export const counters = {
  lost: 0,
  duplicated: 0,
  reordered: 0,
  corrupted: 0,
  blocked: 0,
  heldBack: 0,
  moved: 0,
  restarts: 0,
  restarted: { XX1: 0, XX2: 0, XX3: 0, IK1: 0, IK2: 0, ask: 0, data: 0 },
  restoredSessions: 0,
  rolledBack: 0,
  commitsLost: 0,
  renewals: 0,
  crossings: 0,
  attacker: {
    replays: 0,
    replaysOfEverything: 0,
    oldHandshakes: 0,
    mutations: 0,
    truncations: 0,
    inventions: 0,
    hints: 0,
    cookies: 0,
    versions: 0,
    openings: 0,
    answers: 0,
    fallbacks: 0,
    finishes: 0,
    ownSessions: 0,
    ownRecords: 0,
  },
  seen: { XX1: 0, XX2: 0, XX3: 0, IK1: 0, IK2: 0, ask: 0, confirm: 0, challenge: 0, response: 0 },
  fallbacks: 0,
  hints: 0,
  sessions: 0,
  restartsSeen: 0,
  restartsWithoutHandshake: 0,
  refused: 0,
  replaysDropped: 0,
  stale: 0,
  unauthenticated: 0,
  unknownMessages: 0,
  delivered: { server: 0, device: 0, plain: 0 },
  resends: 0,
  severalInOneRecord: 0,
};

/** How far healing has gone at the worst: see `heal`. */
export const worst = { copies: 0, handshakes: 0, milliseconds: 0 };
