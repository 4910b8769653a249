import type { Millis } from '../base/time.ts';

/** The bound of everything in a pipe that could grow. */
export interface PipeLimits {
  /** Servers that are remembered without a session, a handshake or a queue. */
  readonly peers: number;
  /** The same of devices. */
  readonly devices: number;
  /** Established sessions with servers; the one that has been silent for longest makes room. */
  readonly sessions: number;
  /** The same with devices. */
  readonly deviceSessions: number;
  /** Identities of servers that wait for the driver's decision; the oldest makes room. */
  readonly undecided: number;
  /** The same of devices. */
  readonly deviceUndecided: number;
  /** How long an identity may wait for the driver's decision. */
  readonly undecidedMs: Millis;
  /** Handshakes that were answered and not finished; the oldest makes room. */
  readonly halfOpen: number;
  /** The same of those that are a device's, or may be. */
  readonly deviceHalfOpen: number;
  /** How long an answered handshake may take, and how long its answer is repeated. */
  readonly halfOpenMs: Millis;
  /** Different answers to one XX1 that are waiting for a decision at a time. */
  readonly candidates: number;
  /** Sends of XX1 under one ephemeral key before a new one is made. */
  readonly copiesPerKey: number;
  /** Unanswered timers after which a handshake that nothing waits for is given up. */
  readonly renewAttempts: number;
  /** Unanswered copies of XX3 after which a session is given up. */
  readonly confirmAttempts: number;
  /** Records that wait for a session, per peer, in number, bytes and time. */
  readonly queuedRecords: number;
  readonly queuedBytes: number;
  readonly queuedMs: Millis;
  /** Records received on a session before the driver's decision, in number and bytes. */
  readonly heldRecords: number;
  readonly heldBytes: number;
  /**
   * What goes to those who have not proved who they are (XX2, refusals, hints, repetitions): a rate per second, what
   * may go at once, and the share of the airtime of a link with a known rate.
   */
  readonly answersPerSecond: number;
  readonly answersBurst: number;
  readonly answersShare: number;
  /** Answers to own handshakes, and repetitions asked for: a rate per second and what may come at once. */
  readonly readsPerSecond: number;
  readonly readsBurst: number;
  /** Cookies, where first messages come faster than they are answered, and lists of versions: a rate and a burst. */
  readonly cookiesPerSecond: number;
  readonly cookiesBurst: number;
  /** Unanswered copies of IK1 after which it is XX1's turn. */
  readonly resumeAttempts: number;
  /** Hints "unknown connection": a rate per second and what may come at once. */
  readonly hintsPerSecond: number;
  readonly hintsBurst: number;
  /** How long a session that has been replaced, or refused, still understands late records. */
  readonly lingerMs: Millis;
  /** When a session is replaced by a new one. */
  readonly renewAfterMs: Millis;
  readonly renewAfterRecords: number;
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const DAY = 24 * 60 * MINUTE;

export const DEFAULT_LIMITS: PipeLimits = {
  peers: 4_096,
  devices: 4_096,
  sessions: 1_024,
  deviceSessions: 1_024,
  undecided: 64,
  deviceUndecided: 64,
  undecidedMs: 10 * MINUTE,
  halfOpen: 256,
  deviceHalfOpen: 128,
  halfOpenMs: 10 * MINUTE,
  candidates: 4,
  copiesPerKey: 5,
  renewAttempts: 6,
  confirmAttempts: 6,
  queuedRecords: 64,
  queuedBytes: 65_536,
  queuedMs: 15 * MINUTE,
  heldRecords: 16,
  heldBytes: 16_384,
  answersPerSecond: 20,
  answersBurst: 40,
  answersShare: 0.1,
  readsPerSecond: 200,
  readsBurst: 200,
  cookiesPerSecond: 10_000,
  cookiesBurst: 10_000,
  resumeAttempts: 3,
  hintsPerSecond: 1,
  hintsBurst: 4,
  lingerMs: 2 * MINUTE,
  renewAfterMs: 7 * DAY,
  renewAfterRecords: 2 ** 47,
};
