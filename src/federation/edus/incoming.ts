import type { Presence } from '../../homeserver/presence.ts';
import type { Receipts } from '../../homeserver/receipts.ts';
import { isServerAllowed } from '../../homeserver/server_acls.ts';
import type { ToDevice } from '../../homeserver/to_device.ts';
import type { Typing } from '../../homeserver/typing.ts';
import type { RoomId, ServerName } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import type { Reader } from '../../storage/database.ts';
import type { Log } from '../log.ts';
import type { RemoteDeviceLists } from '../remote_device_lists.ts';
import { DEVICE_LIST_UPDATE, type KeyChange, keyChangeIn, SIGNING_KEY_UPDATE } from './device_lists.ts';
import { PRESENCE, presenceIn } from './presence.ts';
import { RECEIPT, receiptsIn } from './receipts.ts';
import { TO_DEVICE, toDeviceIn } from './to_device.ts';
import { TYPING, typingIn } from './typing.ts';

// Ours.
/** What one transaction may tell, each user's receipt or presence counted: what is beyond it is left out. */
const MAX_TOLD = 500;

interface IncomingEdusOptions {
  readonly serverName: ServerName;
  readonly database: Reader;
  readonly typing: Pick<Typing, 'received'>;
  readonly receipts: Pick<Receipts, 'received'>;
  readonly presence: Pick<Presence, 'received'>;
  readonly toDevice: Pick<ToDevice, 'received'>;
  readonly remoteDeviceLists: Pick<RemoteDeviceLists, 'changed'>;
  readonly log: Log;
}

/**
 * What other servers tell besides events (server-server API, "EDUs"). A server speaks for its own users alone, and in rooms
 * whose access control list lets it; that its users are in the room is for the services to see. An EDU that is malformed, or of a type that is not known, is left out by itself.
 * Done twice, one changes nothing. What must not be lost, messages to devices and changes of devices, fails as a whole where it
 * cannot be stored, so that the transaction comes again.
 */
export class IncomingEdus {
  /** Single receipts, typing notifications and presences that went to the services; EDUs of which nothing did. */
  readonly counters = { told: 0, ignored: 0 };
  readonly #options: IncomingEdusOptions;

  constructor(options: IncomingEdusOptions) {
    this.#options = options;
  }

  /**
   * Takes the messages to devices of one transaction, in their order: before its events, which may need their keys.
   * @throws where they cannot be stored
   */
  async takeMessages(origin: ServerName, edus: readonly JsonValue[]): Promise<void> {
    const { serverName, toDevice } = this.#options;
    const messages = edus.flatMap((edu) => {
      const content = contentOf(edu, TO_DEVICE);
      return (content && toDeviceIn(origin, serverName, content)) ?? [];
    });
    if (messages.length > 0) await toDevice.received(origin, messages);
  }

  /**
   * Takes the changes of devices and signing keys of one transaction, in their order: behind its events, which may be what
   * they come for.
   * @throws where they cannot be stored
   */
  async takeKeyChanges(origin: ServerName, edus: readonly JsonValue[]): Promise<void> {
    const changes = edus.flatMap((edu): KeyChange[] => {
      for (const type of [DEVICE_LIST_UPDATE, SIGNING_KEY_UPDATE]) {
        const content = contentOf(edu, type);
        const change = content && keyChangeIn(origin, type, content);
        if (change !== undefined) return [change];
      }
      return [];
    });
    if (changes.length > 0) await this.#options.remoteDeviceLists.changed(changes);
  }

  /** Takes the other EDUs of one transaction, in their order. It never fails. */
  async take(origin: ServerName, edus: readonly JsonValue[]): Promise<void> {
    let left = MAX_TOLD;
    const allowed = new Map<RoomId, boolean>();
    const mayTell = async (room: RoomId): Promise<boolean> => {
      const may = allowed.get(room) ?? (await isServerAllowed(this.#options.database, room, origin));
      allowed.set(room, may);
      return may;
    };
    for (const edu of edus) {
      const type = isJsonObject(edu) ? own(edu, 'edu_type') : undefined;
      if (DURABLE.has(type)) continue;
      const content = isJsonObject(edu) ? own(edu, 'content') : undefined;
      const before = this.counters.told;
      try {
        for (const tell of isJsonObject(content) ? this.#tasks(origin, type, content) : []) {
          if (left-- <= 0) return;
          if (tell.room !== undefined && !(await mayTell(tell.room))) continue;
          await tell.run();
          this.counters.told++;
        }
      } catch (error) {
        // Our own mistake, or a database that fails. Events of the same transaction must not be kept from coming.
        this.#options.log.warn({ origin, error: String(error) }, 'an EDU could not be processed');
      }
      if (this.counters.told === before) this.counters.ignored++;
    }
  }

  *#tasks(
    origin: ServerName,
    type: JsonValue | undefined,
    content: JsonObject,
  ): Generator<{ readonly room?: RoomId; readonly run: () => Promise<void> }> {
    const { typing, receipts, presence } = this.#options;
    if (type === TYPING) {
      const change = typingIn(origin, content);
      if (change === undefined) return;
      const { room, user, isTyping } = change;
      yield { room, run: () => typing.received(room, user, isTyping) };
    } else if (type === RECEIPT) {
      for (const { room, receipt } of receiptsIn(origin, content))
        yield { room, run: () => receipts.received(room, receipt) };
    } else if (type === PRESENCE) {
      for (const one of presenceIn(origin, content)) yield { run: () => presence.received(one) };
    }
  }
}

const DURABLE: ReadonlySet<JsonValue | undefined> = new Set([
  TO_DEVICE,
  DEVICE_LIST_UPDATE,
  SIGNING_KEY_UPDATE,
]);

/** The content of an EDU of a type; undefined where it is none. */
function contentOf(edu: JsonValue, type: string): JsonObject | undefined {
  const content = isJsonObject(edu) && own(edu, 'edu_type') === type ? own(edu, 'content') : undefined;
  return isJsonObject(content) ? content : undefined;
}
