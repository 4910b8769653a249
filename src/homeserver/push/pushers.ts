import { utf8 } from '../../base/bytes.ts';
import type { Millis } from '../../base/time.ts';
import { invalidParam, missingParam, unknownError } from '../../matrix/error.ts';
import type { UserId } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, own } from '../../matrix/json.ts';
import type { Database } from '../../storage/database.ts';
import { unreadOf } from '../../storage/push_notifications.ts';
import {
  deletePusher,
  deletePushersOfOthers,
  type PusherName,
  pushersOf,
  putPusher,
} from '../../storage/pushers.ts';
import { streamPosition } from '../../storage/sync.ts';
import type { Requester } from '../accounts.ts';
import { type Done, notNoted } from '../once.ts';

/** Client-server API, POST /pushers/set. */
const MAX_PUSHKEY_BYTES = 512;
const MAX_APP_ID_LENGTH = 64;
const GATEWAY_PATH = '/_matrix/push/v1/notify';
const REQUIRED = ['app_display_name', 'device_display_name', 'lang', 'data'] as const;

// Ours.
/** Of one user. */
const MAX_PUSHERS = 50;
/** Of the JSON text of what a pusher is made of. */
const MAX_CONTENT_LENGTH = 16 * 1024;

/** The pushers of users (client-server API, "Push Notifications"); `PushSender` is what serves them. */
export class Pushers {
  readonly #database: Database;
  readonly #clock: { wall(): Millis };
  readonly #insideGateways: ReadonlySet<string>;
  readonly #changed: (user: UserId) => void;

  /**
   * @param of.insideGateways origins of gateways that may be reached without TLS
   * @param of.changed told of whose pushers have changed
   */
  constructor(of: {
    readonly database: Database;
    readonly clock: { wall(): Millis };
    readonly insideGateways: ReadonlySet<string>;
    readonly changed: (user: UserId) => void;
  }) {
    this.#database = of.database;
    this.#clock = of.clock;
    this.#insideGateways = of.insideGateways;
    this.#changed = of.changed;
  }

  /** As GET /pushers tells them. */
  async list(user: UserId): Promise<JsonObject[]> {
    return (await pushersOf(this.#database, user)).map(({ appId, pushkey, content }) => ({
      ...{ app_id: appId, pushkey },
      ...(JSON.parse(content) as JsonObject),
    }));
  }

  /**
   * Sets a pusher, or with the kind null removes one.
   * @param body as of POST /pushers/set, with the types that the specification says
   * @throws MatrixError M_MISSING_PARAM, M_INVALID_PARAM, M_UNKNOWN 400 where the user has too many
   */
  async set(requester: Requester, body: JsonObject, done: Done<void> = notNoted): Promise<void> {
    const { user, device } = requester;
    const name = nameIn(body);
    if (own(body, 'kind') === null) {
      await this.#database.transaction(async (tx) => {
        await deletePusher(tx, user, name);
        await done(tx);
      });
      return;
    }
    const content = this.#contentOf(body);
    await this.#database.transaction(async (tx) => {
      if (own(body, 'append') !== true) await deletePushersOfOthers(tx, user, name);
      const others = (await pushersOf(tx, user)).filter(
        ({ appId, pushkey }) => appId !== name.appId || pushkey !== name.pushkey,
      );
      if (others.length >= MAX_PUSHERS) throw unknownError(400, `A user has at most ${MAX_PUSHERS} pushers.`);
      const now = { position: await streamPosition(tx), badge: await unreadOf(tx, user) };
      await putPusher(tx, { ...name, user, device, content, pushkeyTs: this.#clock.wall(), ...now });
      await done(tx);
      tx.afterCommit(() => this.#changed(user));
    });
  }

  #contentOf(body: JsonObject): string {
    const missing = REQUIRED.filter((key) => own(body, key) === undefined);
    if (missing.length > 0) throw missingParam(`Missing parameters: ${missing.join(', ')}`);
    if (own(body, 'kind') !== 'http') throw invalidParam('The kind of a pusher is "http".');
    const { kind, app_display_name, device_display_name, profile_tag, lang, data } = body;
    this.#checkData(data!);
    const content = {
      ...{ kind: kind!, app_display_name: app_display_name!, device_display_name: device_display_name! },
      ...(profile_tag !== undefined && { profile_tag }),
      ...{ lang: lang!, data: data! },
    };
    const text = JSON.stringify(content);
    if (text.length > MAX_CONTENT_LENGTH) throw invalidParam('The pusher is too large.');
    return text;
  }

  #checkData(data: JsonObject[string]): void {
    const url = isJsonObject(data) ? own(data, 'url') : undefined;
    const parsed = typeof url === 'string' ? URL.parse(url) : null;
    if (parsed === null) throw missingParam('data.url is missing, or no URL.');
    if (parsed.pathname !== GATEWAY_PATH || parsed.username !== '' || parsed.password !== '')
      throw invalidParam(`data.url has the path ${GATEWAY_PATH}.`);
    if (parsed.protocol !== 'https:' && !this.#insideGateways.has(parsed.origin))
      throw invalidParam('data.url begins with https://.');
  }
}

function nameIn(body: JsonObject): PusherName {
  const [appId, pushkey] = [own(body, 'app_id') as string, own(body, 'pushkey') as string];
  if (appId === '' || appId.length > MAX_APP_ID_LENGTH)
    throw invalidParam(`app_id has 1 to ${MAX_APP_ID_LENGTH} characters.`);
  if (pushkey === '' || utf8(pushkey).length > MAX_PUSHKEY_BYTES)
    throw invalidParam(`pushkey has 1 to ${MAX_PUSHKEY_BYTES} bytes.`);
  return { appId, pushkey };
}
