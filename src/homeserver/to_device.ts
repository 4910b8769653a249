import { base64url } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import type { Clock } from '../base/time.ts';
import { invalidParam, MatrixError } from '../matrix/error.ts';
import { fitsIdLimit, parseUserId, type ServerName, serverOf, type UserId } from '../matrix/ids.ts';
import { type JsonObject, parseJson } from '../matrix/json.ts';
import type { Database, Reader, Transaction } from '../storage/database.ts';
import { listDevices } from '../storage/devices.ts';
import {
  addToInbox,
  emptyInbox,
  forgetReceived,
  hasTold,
  inboxMessages,
  isSent,
  putSent,
  takeOnce,
} from '../storage/to_device.ts';
import type { Requester } from './accounts.ts';
import type { Notifier } from './notifier.ts';
import type { ToDeviceOutbox } from './ports.ts';
import { type Rate, RateLimit } from './rate_limit.ts';

/** In the place of a device: all of the user's that are known. */
const ALL_DEVICES = '*';

// Ours.
/** The size of one message, as of an event. */
export const MAX_CONTENT_BYTES = 65_536;
/** Devices that one request may name. */
const MAX_RECIPIENTS = 10_000;
/** A client that encrypts for a large room makes many requests at once. */
const SENDS: Rate = { burst: 500, intervalMs: 50 };
/** Random bytes in the ids of messages to other servers. */
const MESSAGE_ID_BYTES = 9;

/** By user and device, or `*`. */
export type Messages = ReadonlyMap<UserId, ReadonlyMap<string, JsonObject>>;

/** A message as another server tells it. */
export interface ReceivedMessage {
  readonly sender: UserId;
  readonly type: string;
  readonly messageId: string;
  readonly messages: Messages;
}

interface ToDeviceOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly random: Random;
  readonly notifier: Pick<Notifier, 'published'>;
  readonly serverName: ServerName;
  readonly outbox: ToDeviceOutbox;
  readonly log: { warn(fields: object, message: string): void };
}

/** Messages to devices (client-server API, "Send-to-Device messaging"). */
export class ToDevice {
  /** Messages that were put into an inbox, that had come before, and that were lost because an inbox was full. */
  readonly counters = { delivered: 0, repeated: 0, lost: 0 };
  readonly #options: ToDeviceOptions;
  readonly #limit: RateLimit;

  constructor(options: ToDeviceOptions) {
    this.#options = options;
    this.#limit = new RateLimit(options.clock, SENDS);
  }

  /**
   * Sends each device its message; what a device sends under the same type and id a second time is not sent.
   * @param messages by user id and device id, or `*`
   * @throws MatrixError M_INVALID_PARAM, M_TOO_LARGE, M_LIMIT_EXCEEDED
   */
  async send(
    { user, device }: Requester,
    type: string,
    txnId: string,
    messages: Readonly<Record<string, Readonly<Record<string, JsonObject>>>>,
  ): Promise<void> {
    const { database, clock, random, serverName, outbox } = this.#options;
    const transaction = { user, device, type, txnId };
    if (!fitsIdLimit(type) || !fitsIdLimit(txnId))
      throw invalidParam('The type or the transaction id is too long.');
    const recipients = recipientsOf(messages);
    if (await isSent(database, transaction)) return;
    this.#limit.take(user);
    const messageId = base64url(random.bytes(MESSAGE_ID_BYTES));
    const remote = Map.groupBy(recipients, ([recipient]) => serverOf(recipient));
    const local = new Map(remote.get(serverName));
    remote.delete(serverName);
    await database.transaction(async (tx) => {
      if (await isSent(tx, transaction)) return;
      await this.#deliver(tx, { sender: user, type, messages: local });
      for (const [destination, of] of remote)
        await outbox.enqueueToDevice(tx, destination, {
          sender: user,
          type,
          messageId,
          messages: new Map(of),
        });
      await putSent(tx, transaction, clock.wall());
    });
  }

  /** Takes messages of another server, in their order, each once: all of them, or none where it fails. */
  async received(origin: ServerName, messages: readonly ReceivedMessage[]): Promise<void> {
    const { database, clock } = this.#options;
    const now = clock.wall();
    await database.transaction(async (tx) => {
      let repeated = 0;
      for (const message of messages) {
        if (await takeOnce(tx, origin, message.messageId, now)) await this.#deliver(tx, message);
        else repeated++;
      }
      await forgetReceived(tx, origin, now);
      tx.afterCommit(() => {
        this.counters.repeated += repeated;
      });
    });
  }

  /** What a device is told in `after` < position <= `upTo`, in the order in which it came. */
  async events(
    reader: Reader,
    { user, device }: Requester,
    range: { readonly after: number; readonly upTo: number },
  ): Promise<JsonObject[]> {
    const texts = await inboxMessages(reader, user, device, range);
    return texts.map((text) => parseJson(text) as JsonObject);
  }

  /** A device has everything that it was told up to a position of the stream. That goes, and what waits is told. */
  async acknowledge({ user, device }: Requester, upTo: number): Promise<void> {
    const { database, notifier } = this.#options;
    if (!(await hasTold(database, user, device, upTo))) return;
    await database.transaction(async (tx) => {
      const position = await emptyInbox(tx, user, device, upTo);
      if (position !== undefined) tx.afterCommit(() => notifier.published(position, [], [user]));
    });
  }

  async #deliver(
    tx: Transaction,
    { sender, type, messages }: Pick<ReceivedMessage, 'sender' | 'type' | 'messages'>,
  ): Promise<void> {
    const { notifier, log } = this.#options;
    const server = serverOf(sender);
    for (const [user, contents] of messages) {
      let [delivered, last]: [number, number | undefined] = [0, undefined];
      const full: string[] = [];
      for (const { device } of await listDevices(tx, user)) {
        const content = contents.get(device) ?? contents.get(ALL_DEVICES);
        if (content === undefined) continue;
        const json = JSON.stringify({ type, sender, content });
        const placed = await addToInbox(tx, user, device, { server, json });
        if (placed === 'full') full.push(device);
        else delivered++;
        if (typeof placed === 'number') last = placed;
      }
      tx.afterCommit(() => {
        this.counters.delivered += delivered;
        this.counters.lost += full.length;
        if (full.length > 0)
          log.warn({ user, devices: full, sender }, 'a message to a device was lost: its inbox is full');
        if (last !== undefined) notifier.published(last, [], [user]);
      });
    }
  }
}

/** @throws MatrixError M_INVALID_PARAM, M_TOO_LARGE */
function recipientsOf(
  messages: Readonly<Record<string, Readonly<Record<string, JsonObject>>>>,
): [UserId, ReadonlyMap<string, JsonObject>][] {
  let left = MAX_RECIPIENTS;
  return Object.entries(messages).map(([id, devices]) => {
    const user = parseUserId(id);
    if (!user.ok) throw invalidParam(`A user id is not valid: ${user.problem}.`);
    const contents = new Map(Object.entries(devices));
    left -= contents.size;
    if (left < 0) throw tooLarge(`A request may name ${MAX_RECIPIENTS} devices.`);
    for (const [device, content] of contents) {
      if (!fitsIdLimit(device)) throw invalidParam('A device id is too long.');
      if (Buffer.byteLength(JSON.stringify(content)) > MAX_CONTENT_BYTES)
        throw tooLarge(`A message has at most ${MAX_CONTENT_BYTES} bytes.`);
    }
    return [user.value, contents];
  });
}

const tooLarge = (message: string): MatrixError => new MatrixError(413, 'M_TOO_LARGE', message);
