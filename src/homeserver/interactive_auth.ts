import { base64url } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import type { JsonObject } from '../matrix/json.ts';

/** What a client sends in `auth` to get past a challenge. */
export interface AuthData {
  readonly type?: string;
  readonly session?: string;
  readonly token?: string;
  readonly password?: string;
  readonly identifier?: { readonly type: string; readonly user?: string };
}

export type Stage = 'm.login.dummy' | 'm.login.registration_token' | 'm.login.password';

const SESSION_BYTES = 12;

/**
 * The body of a 401 that asks for further proof (client-server API, "User-Interactive Authentication API"). All our
 * flows have one stage, so a session is a name only: nothing is kept for it between two requests.
 * @param problem why what was sent is not enough; left out where nothing was sent for this stage
 */
export function challenge(
  random: Random,
  stage: Stage,
  auth: AuthData | null | undefined,
  problem?: string,
): JsonObject {
  return {
    flows: [{ stages: [stage] }],
    params: {},
    session: auth?.session ?? base64url(random.bytes(SESSION_BYTES)),
    ...(problem === undefined ? {} : { errcode: 'M_FORBIDDEN', error: problem }),
  };
}
