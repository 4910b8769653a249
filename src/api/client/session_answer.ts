import type { Session } from '../../homeserver/sessions.ts';
import type { JsonObject } from '../../matrix/json.ts';

/** What a login or a registration answers of the session that it began. */
export const sessionAnswer = ({
  user,
  device,
  accessToken,
  refreshToken,
  expiresInMs,
}: Session): JsonObject => ({
  user_id: user,
  device_id: device,
  access_token: accessToken,
  ...(refreshToken === undefined ? {} : { refresh_token: refreshToken }),
  ...(expiresInMs === undefined ? {} : { expires_in_ms: expiresInMs }),
});
