import {
  ClientEvent,
  createClient,
  Filter,
  type LoginResponse,
  type MatrixClient,
  type MatrixEvent,
  MatrixEventEvent,
  MsgType,
  RoomEvent,
  SyncState,
} from 'matrix-js-sdk';
import { CryptoEvent } from 'matrix-js-sdk/lib/crypto-api/index.js';
import type { Logger } from 'matrix-js-sdk/lib/logger.js';
import { vi } from 'vitest';
import { type Millis, systemClock } from '../../src/base/time.ts';

export const PASSWORD = 'a long enough password';
const WAIT_MS: Millis = 40_000;

/** What the library calls an error, everywhere in it. */
export class Complaints {
  readonly #said: string[] = [];
  readonly #warned: string[] = [];
  /** The library tells every request; of what goes wrong some goes to the console. */
  readonly logger: Logger = {
    trace: () => undefined,
    debug: () => undefined,
    info: () => undefined,
    warn: (...words: unknown[]) => void this.#warned.push(words.map(String).join(' ')),
    error: (...words: unknown[]) => this.#note(words),
    getChild: () => this.logger,
  };

  constructor() {
    for (const level of ['debug', 'info', 'log', 'warn'] as const)
      vi.spyOn(console, level).mockImplementation(() => undefined);
    vi.spyOn(console, 'error').mockImplementation((...words: unknown[]) => this.#note(words));
  }

  #note(words: readonly unknown[]): void {
    this.#said.push(words.map(String).join(' '));
  }

  /** What was said since the last time. */
  take(): string[] {
    return this.#said.splice(0);
  }

  /** What it only warned of, since the last time. */
  takeWarnings(): string[] {
    return this.#warned.splice(0);
  }
}

/** Registers a user and logs in. The client does not sync yet. */
export async function newClient(
  baseUrl: string,
  username: string,
  complaints: Complaints,
): Promise<MatrixClient> {
  await register(baseUrl, username, complaints);
  const login = await logIn(baseUrl, username, complaints);
  return createClient({
    ...{ baseUrl, logger: complaints.logger, userId: login.user_id, accessToken: login.access_token },
    deviceId: login.device_id,
  });
}

/** Makes a user without a device. */
export async function register(baseUrl: string, username: string, { logger }: Complaints): Promise<void> {
  const anonymous = createClient({ baseUrl, logger });
  const asked = await anonymous
    .registerRequest({ username, password: PASSWORD })
    .catch((error) => error.data as { session: string });
  const { session } = asked as { session: string };
  const auth = { type: 'm.login.dummy', session };
  await anonymous.registerRequest({ username, password: PASSWORD, inhibit_login: true, auth });
}

/** Makes a new device of a user. */
export const logIn = (baseUrl: string, username: string, { logger }: Complaints): Promise<LoginResponse> =>
  createClient({ baseUrl, logger }).loginRequest({
    ...{ type: 'm.login.password', password: PASSWORD },
    identifier: { type: 'm.id.user', user: username },
  });

/**
 * Begins to sync, or goes on where it has stopped. Resolves when it has caught up.
 * @param atOnce how much of a timeline later answers have at most; left out: what the server likes
 */
export async function follow(client: MatrixClient, initialSyncLimit = 20, atOnce?: number): Promise<void> {
  const filter = new Filter(client.getUserId());
  if (atOnce !== undefined) filter.setTimelineLimit(atOnce);
  const caughtUp = new Promise<void>((resolve) => {
    const look = (state: SyncState): void => {
      if (state !== SyncState.Prepared && state !== SyncState.Syncing) return;
      client.off(ClientEvent.Sync, look);
      resolve();
    };
    client.on(ClientEvent.Sync, look);
  });
  await client.startClient({
    ...{ initialSyncLimit, lazyLoadMembers: true },
    ...(atOnce !== undefined && { filter }),
  });
  await caughtUp;
}

/** Resolves once `holds`, looking again whenever something arrives. */
export function eventually(
  client: MatrixClient,
  what: string,
  holds: () => boolean | Promise<boolean>,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const over = (end: () => void) => {
      for (const event of EVENTS) client.off(event, look);
      giveUp();
      end();
    };
    const look = async (): Promise<void> => {
      try {
        if (await holds()) over(resolve);
      } catch (error) {
        over(() => reject(error));
      }
    };
    const giveUp = systemClock.after(WAIT_MS, () =>
      over(() => reject(new Error(`${client.getUserId()} waited in vain until ${what}`))),
    );
    for (const event of EVENTS) client.on(event, look);
    void look();
  });
}

const EVENTS = [
  ...[ClientEvent.Event, ClientEvent.Sync, RoomEvent.MyMembership, RoomEvent.Receipt],
  ...[MatrixEventEvent.Decrypted, CryptoEvent.DevicesUpdated, CryptoEvent.UserTrustStatusChanged],
  ...[CryptoEvent.KeyBackupStatus, CryptoEvent.KeyBackupSessionsRemaining],
] as const;

export const timeline = (client: MatrixClient, room: string): MatrixEvent[] =>
  client.getRoom(room)?.getLiveTimeline().getEvents() ?? [];

/** What a room says in text, from the oldest that the client has; edits in their places, and nothing that was taken back. */
export const bodies = (client: MatrixClient, room: string): string[] =>
  timeline(client, room)
    .filter((event) => event.getType() === 'm.room.message' && event.status === null)
    .filter((event) => event.getContent().msgtype === MsgType.Text)
    .filter((event) => !event.isRelation('m.replace') && !event.isRedacted())
    .map((event) => event.getContent().body as string);
