import { base64url } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import type { Clock, Millis } from '../base/time.ts';
import type { JsonObject } from '../matrix/json.ts';

/** What a client sends in `auth` to get past a challenge. */
export interface AuthData {
  readonly type?: string;
  readonly session?: string;
  readonly token?: string;
  readonly password?: string;
  readonly identifier?: { readonly type: string; readonly user?: string };
}

export type Stage = 'm.login.dummy' | 'm.login.registration_token' | 'm.login.terms' | 'm.login.password';

const SESSION_BYTES = 12;
/** Sessions that are kept; of more, the oldest is forgotten, and its client begins anew. */
const MAX_SESSIONS = 10_000;
/** Long enough to read terms of service. */
const LIFETIME_MS: Millis = 30 * 60_000;

/** One operation that a client is about to be allowed. */
export interface AuthSession {
  /** Undefined as long as the client has not been told of it. */
  id: string | undefined;
  /** The operation and who asked for it: what was proved for one is worth nothing for another. */
  readonly operation: string;
  readonly completed: Set<Stage>;
  /** The SHA-256 of the registration token that was shown. */
  registrationToken?: Uint8Array | undefined;
  readonly expires: Millis;
}

export interface AuthRequest {
  readonly operation: string;
  /** The stages of the one flow that is offered, in order. */
  readonly stages: readonly Stage[];
  /** What the client has to know for the stages. */
  readonly params?: JsonObject | undefined;
  readonly auth: AuthData | null | undefined;
  /**
   * Judges what was sent for the stage that is next.
   * @returns why it is not enough; undefined where it is @throws MatrixError
   */
  readonly check: (stage: Stage, auth: AuthData, session: AuthSession) => Promise<string | undefined>;
}

export type AuthOutcome =
  | { readonly kind: 'proved'; readonly session: AuthSession }
  /** The body of a 401. */
  | { readonly kind: 'challenge'; readonly body: JsonObject };

/**
 * Asks for further proof, stage by stage (client-server API, "User-Interactive Authentication API"). A session that is not
 * known any more, after a restart for example, or is of another operation, counts as a new one: what came with the
 * request is judged, and nothing else is taken as proved.
 */
export class InteractiveAuth {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #sessions = new Map<string, AuthSession>();

  constructor({ clock, random }: { readonly clock: Clock; readonly random: Random }) {
    this.#clock = clock;
    this.#random = random;
  }

  /** Takes what a request brings. A session that is proved stays so until it is ended, or runs out. */
  async advance({ operation, stages, params = {}, auth, check }: AuthRequest): Promise<AuthOutcome> {
    const session = this.#sessionOf(operation, auth?.session);
    const refused = (problem?: string): AuthOutcome => ({
      kind: 'challenge',
      body: {
        flows: [{ stages: [...stages] }],
        params,
        session: session.id ?? this.#keep(session),
        ...(session.completed.size === 0 ? {} : { completed: [...session.completed] }),
        ...(problem === undefined ? {} : { errcode: 'M_FORBIDDEN', error: problem }),
      },
    });
    // "A request to an endpoint that uses User-Interactive Authentication never succeeds without auth."
    if (auth === null || auth === undefined) return refused();
    const next = stages.find((stage) => !session.completed.has(stage));
    if (next !== undefined && auth.type === next) {
      const problem = await check(next, auth, session);
      if (problem !== undefined) return refused(problem);
      session.completed.add(next);
    }
    return stages.every((stage) => session.completed.has(stage)) ? { kind: 'proved', session } : refused();
  }

  /** Forgets a session: the operation is done. */
  end({ id }: AuthSession): void {
    if (id !== undefined) this.#sessions.delete(id);
  }

  #sessionOf(operation: string, id: string | undefined): AuthSession {
    const now = this.#clock.monotonic();
    const known = id === undefined ? undefined : this.#sessions.get(id);
    if (known !== undefined && known.operation === operation && known.expires > now) return known;
    return { id: undefined, operation, completed: new Set(), expires: now + LIFETIME_MS };
  }

  /** Keeps a session for the client's next request. @returns its id */
  #keep(session: AuthSession): string {
    const now = this.#clock.monotonic();
    const id = base64url(this.#random.bytes(SESSION_BYTES));
    session.id = id;
    this.#sessions.set(id, session);
    for (const [oldest, { expires }] of this.#sessions) {
      if (expires > now && this.#sessions.size <= MAX_SESSIONS) break;
      this.#sessions.delete(oldest);
    }
    return id;
  }
}
