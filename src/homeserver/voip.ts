import type { Clock } from '../base/time.ts';
import { hmacSha1 } from '../crypto/sha1.ts';
import type { UserId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';

/** Servers that calls go through. */
export interface VoipConfig {
  readonly turn_uris: readonly string[];
  /** What the TURN server shares with this one. */
  readonly turn_secret: string | null;
  /** How long a name and password are good. */
  readonly turn_lifetime_s: number;
  /** Where tokens of a LiveKit server are handed out. */
  readonly livekit: string | null;
}

/** What clients are told of the servers that calls go through (client-server API, "Voice over IP"; MSC4143). */
export class Voip {
  readonly #config: VoipConfig;
  readonly #clock: Clock;

  constructor(config: VoipConfig, clock: Clock) {
    this.#config = config;
    this.#clock = clock;
  }

  /**
   * A name and password for the TURN server, as its REST API takes them: until when they are good, signed with what it shares
   * with this server. An empty object where there is none, which is what clients know from other servers.
   */
  turnServer(user: UserId): JsonObject {
    const { turn_uris: uris, turn_secret: secret, turn_lifetime_s: ttl } = this.#config;
    if (uris.length === 0 || secret === null) return {};
    const username = `${Math.floor(this.#clock.wall() / 1000) + ttl}:${user}`;
    return { username, password: hmacSha1(secret, username), ttl, uris: [...uris] };
  }

  /** Where a MatrixRTC call can meet (MSC4143). */
  rtcTransports(): JsonObject[] {
    const { livekit } = this.#config;
    return livekit === null ? [] : [{ type: 'livekit', livekit_service_url: livekit }];
  }
}
