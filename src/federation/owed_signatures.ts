import { base64, fromBase64 } from '../base/bytes.ts';
import type { Cancel, Clock, Millis } from '../base/time.ts';
import { SIGNATURE_BYTES } from '../compact/pdu/layout.ts';
import { MAX_PROVISIONAL, mayDefer } from '../compact/pdu/provisional.ts';
import { plainSignatures, signerOf } from '../compact/pdu/signature_field.ts';
import { compactSignatures, MAX_BATCHED_SIGNATURES } from '../compact/pdu/signatures.ts';
import { SIGNATURES_PATH } from '../exchange/pipe_codec.ts';
import { parsePdu } from '../matrix/event_format.ts';
import { referenceHash } from '../matrix/hashes.ts';
import type { RoomId, ServerName } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import { roomVersion } from '../matrix/room_version.ts';
import type { Database } from '../storage/database.ts';
import { joinedServers } from '../storage/memberships.ts';
import {
  countOwed,
  dropOwed,
  dueSignatures,
  type OwedSignature,
  owedDestinations,
  putOwed,
} from '../storage/owed_signatures.ts';
import { findRoom } from '../storage/rooms.ts';
import type { Log } from './log.ts';
import type { FederationTransport } from './transport.ts';

// How signatures follow their events
// ----------------------------------
// Before an event goes without its signature, a row says that the signature is owed. It may go once the event has left the
// outbox, which is when its destination has answered for it: so what is owed is right whatever stops in between. It stays
// owed where the event is sent again with its signature: that transaction may be answered for what came first.
//
// Signatures wait until nothing has gone to their destination for a while, so that many go together and nobody waits for
// them. An event that goes with its signature, such as a state event or a redaction, may be built on those that went
// without: it would have to wait for them there, so that they follow it at once.

// Ours.
/** How long nothing has to go to a destination before its signatures go. */
export const QUIET_MS: Millis = 30_000;
/** How long signatures wait at most, however much is said. */
export const MAX_HELD_BACK_MS: Millis = 10 * 60_000;
/** How soon they go when they are waited for: when the answer to the event has been stored. */
const SOON_MS: Millis = 500;
const TIMEOUT_MS: Millis = 90_000;
/** After a failure; doubled by each further one. */
const FIRST_RETRY_MS: Millis = 60_000;
const MAX_RETRY_MS: Millis = 60 * 60_000;
const MAX_LOGGED_ERROR = 200;

/** What is known of a destination that is owed something. */
interface Lane {
  cancel: Cancel | undefined;
  /** Monotonic: when the timer ends, and when the first of the signatures that wait began to. */
  at: Millis;
  since: Millis | undefined;
  failures: number;
  running: boolean;
}

interface OwedSignaturesOptions {
  readonly serverName: ServerName;
  readonly database: Database;
  readonly clock: Clock;
  readonly transport: FederationTransport;
  /** Whether a destination has agreed that signatures may follow their events. */
  readonly isAgreed: (destination: ServerName) => boolean;
  readonly log: Log;
}

/** An event that goes, and whether it goes without its signature. */
export interface WrittenPdu {
  readonly pdu: JsonObject;
  readonly isDeferred: boolean;
}

/** What this server owes: keeps it, and sends it in idle airtime. */
export class OwedSignatures {
  /** Since the start: events that went without their signatures, signatures that were answered for, batches that failed. */
  readonly counters = { deferred: 0, followed: 0, failed: 0 };
  readonly #options: OwedSignaturesOptions;
  readonly #lanes = new Map<ServerName, Lane>();
  readonly #running = new Set<Promise<void>>();
  #stopping: AbortController | undefined;

  constructor(options: OwedSignaturesOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    this.#stopping = new AbortController();
    for (const destination of await owedDestinations(this.#options.database)) this.#schedule(destination);
  }

  /** Stops sending and waits until nothing is under way. */
  async stop(): Promise<void> {
    this.#stopping?.abort();
    this.#stopping = undefined;
    for (const { cancel } of this.#lanes.values()) cancel?.();
    this.#lanes.clear();
    await Promise.all(this.#running);
  }

  /** The server has just spoken to us, and so can be reached. */
  peerSpoke(server: ServerName): void {
    const lane = this.#lanes.get(server);
    if (lane === undefined || lane.failures === 0 || lane.running) return;
    lane.failures = 0;
    this.#schedule(server);
  }

  /** Which of the events to a destination may go without their signatures, for now. */
  async mayFollow(destination: ServerName, pdus: readonly JsonObject[]): Promise<ReadonlySet<JsonObject>> {
    const { database, serverName, isAgreed } = this.#options;
    const may = new Set<JsonObject>();
    if (!isAgreed(destination)) return may;
    let owed = await countOwed(database, destination);
    for (const pdu of pdus) {
      const room = typeof pdu.room_id === 'string' ? pdu.room_id : '';
      const servers = await joinedServers(database, room as RoomId);
      const isOurs = typeof pdu.sender === 'string' && signerOf(pdu.sender) === serverName;
      if (!isOurs || !servers.includes(destination) || !mayDefer(pdu, servers.length)) continue;
      if (owed++ < MAX_PROVISIONAL) may.add(pdu);
    }
    return may;
  }

  /** Notes, before they go, which events go without their signatures, and which with them. */
  async going(destination: ServerName, written: readonly WrittenPdu[]): Promise<void> {
    const { database } = this.#options;
    const owed: OwedSignature[] = [];
    for (const { pdu, isDeferred } of written) {
      const found = isDeferred ? await this.#owedOf(pdu) : undefined;
      if (found === undefined) continue;
      owed.push(found);
    }
    const isWhole = written.some(({ isDeferred }) => !isDeferred);
    const mustFollow = isWhole && (await countOwed(database, destination)) > 0;
    if (owed.length > 0)
      this.counters.deferred += await database.transaction((tx) => putOwed(tx, destination, owed));
    if (owed.length > 0 || this.#lanes.has(destination)) this.#schedule(destination, mustFollow);
  }

  async #owedOf(pdu: JsonObject): Promise<OwedSignature | undefined> {
    const room = typeof pdu.room_id === 'string' ? pdu.room_id : '';
    const found = await findRoom(this.#options.database, room as RoomId);
    const version = found && roomVersion(found.version);
    const parsed = version && parsePdu(pdu, version);
    const [signature] = plainSignatures(pdu) ?? [];
    if (version === undefined || parsed?.ok !== true || signature === undefined) return undefined;
    const { id, pdu: event } = parsed.value;
    return { eventId: id, referenceHash: referenceHash(event, version), signature: signature.bytes };
  }

  /** @param soon not to wait for silence */
  #schedule(destination: ServerName, soon = false): void {
    if (this.#stopping === undefined) return;
    const { clock } = this.#options;
    const now = clock.monotonic();
    const lane = this.#lanes.get(destination) ?? {
      ...{ cancel: undefined, at: 0, since: undefined, failures: 0, running: false },
    };
    this.#lanes.set(destination, lane);
    lane.since ??= now;
    const quiet = Math.max(now, Math.min(now + QUIET_MS, lane.since + MAX_HELD_BACK_MS));
    const isUrgent = lane.cancel !== undefined && lane.at <= now + SOON_MS;
    if (isUrgent || (lane.failures > 0 && lane.cancel !== undefined)) return;
    this.#setTimer(destination, lane, soon ? now + SOON_MS : quiet);
  }

  #setTimer(destination: ServerName, lane: Lane, at: Millis): void {
    lane.cancel?.();
    lane.at = at;
    lane.cancel = this.#options.clock.after(Math.max(0, at - this.#options.clock.monotonic()), () => {
      lane.cancel = undefined;
      if (lane.running) return;
      const run = this.#run(destination, lane).finally(() => this.#running.delete(run));
      this.#running.add(run);
    });
  }

  async #run(destination: ServerName, lane: Lane): Promise<void> {
    const stopping = this.#stopping;
    if (stopping === undefined) return;
    const { database, clock, log } = this.#options;
    lane.running = true;
    lane.since = undefined;
    let left = 0;
    try {
      while (!stopping.signal.aborted && (await this.#sendBatch(destination, stopping.signal)));
      lane.failures = 0;
      left = await countOwed(database, destination);
    } catch (error) {
      if (stopping.signal.aborted) return;
      this.counters.failed++;
      lane.failures++;
      const reason = error instanceof Error ? error.message.slice(0, MAX_LOGGED_ERROR) : String(error);
      log.info({ destination, failures: lane.failures, reason }, 'a server did not take signatures');
    } finally {
      lane.running = false;
    }
    if (stopping.signal.aborted) return;
    if (lane.failures > 0) {
      const wait = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** (lane.failures - 1));
      this.#setTimer(destination, lane, clock.monotonic() + wait);
    } else if (left === 0 && lane.cancel === undefined) this.#lanes.delete(destination);
    // What is left is of events that have not been answered for.
    else if (lane.cancel === undefined) this.#schedule(destination);
  }

  /** @returns whether there was something to send, and it has arrived */
  async #sendBatch(destination: ServerName, signal: AbortSignal): Promise<boolean> {
    const { database, transport } = this.#options;
    const due = await dueSignatures(database, destination, MAX_BATCHED_SIGNATURES);
    if (due.length === 0) return false;
    await transport.request(destination, {
      method: 'PUT',
      path: SIGNATURES_PATH,
      body: signaturesJson(compactSignatures(due)),
      timeoutMs: TIMEOUT_MS,
      // Below everything else.
      priority: 5,
      signal,
    });
    const ids = due.map(({ eventId }) => eventId);
    await database.transaction((tx) => dropOwed(tx, destination, ids));
    this.counters.followed += due.length;
    return true;
  }
}

/** A batch as JSON: each signature, with its event's bits in it, in unpadded base64. */
export function signaturesJson(batch: Uint8Array): JsonObject {
  const signatures: string[] = [];
  for (let at = 0; at < batch.length; at += SIGNATURE_BYTES)
    signatures.push(base64(batch.subarray(at, at + SIGNATURE_BYTES)));
  return { signatures };
}

/** The bytes of a batch; undefined where it is none. */
export function signaturesBytes(body: JsonObject): Uint8Array | undefined {
  const { signatures } = body;
  if (!Array.isArray(signatures) || signatures.length > MAX_BATCHED_SIGNATURES) return undefined;
  const batch = new Uint8Array(signatures.length * SIGNATURE_BYTES);
  for (const [i, text] of signatures.entries()) {
    const bytes = typeof text === 'string' ? fromBase64(text) : undefined;
    if (bytes?.length !== SIGNATURE_BYTES) return undefined;
    batch.set(bytes, i * SIGNATURE_BYTES);
  }
  return batch;
}
