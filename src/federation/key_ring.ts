import { base64, fromBase64 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { type Clock, type Millis, sleep } from '../base/time.ts';
import type { EventVerifier } from '../homeserver/ports.ts';
import { parsePdu } from '../matrix/event_format.ts';
import { type KeyId, parseKeyId, type ServerName } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import type { Event } from '../matrix/pdu.ts';
import { redact } from '../matrix/redaction.ts';
import { type RoomVersion, roomVersion } from '../matrix/room_version.ts';
import {
  contentHashMatches,
  requiredSigners,
  type SigningKey,
  verifyEventSignature,
} from '../matrix/signing.ts';
import type { Database } from '../storage/database.ts';
import { pipePeer } from '../storage/pipe_peers.ts';
import { keysOf, putKey, type StoredKey, unconfirmKeys } from '../storage/server_keys.ts';
import { BoundedMap, Slots } from './bounded.ts';
import { MAX_KEY_VALIDITY_MS, ownKeyDocument, requestKeys } from './key_document.ts';
import type { Log } from './log.ts';
import type { TransportKind, Transports } from './transports.ts';
import type { RequestKeys } from './x_matrix.ts';

/** Why an event is not accepted. `no_key`: its server's keys could not be asked for now, so it may be good. */
export interface VerificationProblem {
  readonly kind: 'invalid' | 'no_key';
  readonly reason: string;
}

/** Fetches at a time, for servers that we know and for strangers: anybody can name any number of those. */
const MAX_FETCHES = 16;
const MAX_WAITING_FETCHES = 1000;
/** After an answer, the same server is not asked again for this long, whatever an event says of its keys. */
const MIN_FETCH_INTERVAL_MS: Millis = 10_000;
/** After the first failure; doubled by each further one. */
const FIRST_RETRY_MS: Millis = 10_000;
const MAX_RETRY_MS: Millis = 60 * 60 * 1000;
/**
 * How long a server in the pipe of which nothing is known may come by itself before it is asked for its keys, where its name comes
 * first: when two servers learn of each other in a room, two handshakes at a time would be one too many.
 */
const FIRST_WORD_MS: Millis = 500;
const MAX_CACHED_SERVERS = 10_000;
/** Signatures of one server that are looked at on one event. */
const MAX_SIGNATURES = 8;

interface Fetched {
  /** Monotonic time before which the server is not asked again. */
  readonly notBefore: Millis;
  /** Failures in a row. */
  readonly failures: number;
}

/** The keys of all servers: publishes ours, fetches and keeps those of others, and checks events with them. */
export class KeyRing implements EventVerifier, RequestKeys {
  readonly #options: KeyRingOptions;
  readonly #keys = new BoundedMap<ServerName, readonly StoredKey[]>(MAX_CACHED_SERVERS);
  #stores = 0;
  readonly #fetched = new BoundedMap<string, Fetched>(MAX_CACHED_SERVERS);
  readonly #fetching = new Map<string, Promise<boolean>>();
  readonly #slots = {
    known: new Slots(MAX_FETCHES, MAX_WAITING_FETCHES),
    strangers: new Slots(MAX_FETCHES, MAX_WAITING_FETCHES),
  };

  constructor(options: KeyRingOptions) {
    this.#options = options;
  }

  /** What this server publishes (`GET /_matrix/key/v2/server`). */
  ownKeys(): JsonObject {
    const { serverName, signingKey, clock, retiredKeys } = this.#options;
    return ownKeyDocument(serverName, signingKey, clock.wall(), retiredKeys);
  }

  async requestKey(server: ServerName, keyId: KeyId, at: Millis): Promise<Uint8Array | undefined> {
    const found = await this.#find(server, keyId, at);
    return found.key === undefined || found.key.retired ? undefined : fromBase64(found.key.publicKey);
  }

  async verify(pdu: unknown, version: string): Promise<Result<Event, string>> {
    const checked = await this.check(pdu, version);
    return checked.ok ? checked : bad(checked.problem.reason);
  }

  /**
   * As `verify`, telling a bad event from one whose keys could not be had.
   * @param signers the servers that must have signed it, where these are not those that the room version says
   */
  async check(
    pdu: unknown,
    versionId: string,
    signers?: readonly ServerName[],
  ): Promise<Result<Event, VerificationProblem>> {
    const version = roomVersion(versionId);
    if (version === undefined) return invalid(`room version ${versionId} is not supported`);
    const parsed = parsePdu(pdu, version);
    if (!parsed.ok) return invalid(parsed.problem);
    const event = parsed.value;
    for (const server of signers ?? requiredSigners(event.pdu, version)) {
      const signed = await this.#isSignedBy(event, version, server);
      if (!signed.ok) return signed;
    }
    return ok(contentHashMatches(event.pdu, version) ? event : { ...event, pdu: redact(event.pdu, version) });
  }

  /**
   * Whether the key API of `server` says over HTTPS that this key is in use. Answers kept from there hold as long as
   * keys may be believed; without HTTPS the answer is no.
   */
  async isConfirmed(server: ServerName, keyId: KeyId, publicKey: Uint8Array): Promise<boolean> {
    const text = base64(publicKey);
    const confirms = (keys: readonly StoredKey[]): boolean => {
      const now = this.#options.clock.wall();
      return keys.some(
        (key) => key.keyId === keyId && key.publicKey === text && !key.retired && key.confirmedUntil >= now,
      );
    };
    const known = await this.#stored(server);
    if (confirms(known)) return true;
    return (await this.#fetch(server, 'https', known.length > 0)) && confirms(await this.#stored(server));
  }

  /** Whether the key API over HTTPS has ever told keys of this server, so that others need its confirmation. */
  async hasConfirmedKeys(server: ServerName): Promise<boolean> {
    return (await this.#stored(server)).some((key) => key.confirmedUntil > 0);
  }

  /** Believes a key to which a server's accepted pipe identity is bound, as if it had been fetched now. */
  async acceptClaimedKey(server: ServerName, keyId: KeyId, publicKey: Uint8Array): Promise<void> {
    const claimed: StoredKey = {
      keyId,
      publicKey: base64(publicKey),
      validUntil: this.#options.clock.wall() + MAX_KEY_VALIDITY_MS,
      retired: false,
      confirmedUntil: 0,
    };
    await this.#store(server, [claimed]);
  }

  /** The server has just spoken to us: it may be asked again although it did not answer before. */
  peerSpoke(server: ServerName): void {
    for (const kind of ['https', 'pipe'] as const) {
      const id = fetchId(server, kind);
      if ((this.#fetched.get(id)?.failures ?? 0) > 0) this.#fetched.delete(id);
    }
  }

  /** All signatures of `server` by known keys that were valid then have to be right, and one there has to be. */
  async #isSignedBy(
    event: Event,
    version: RoomVersion,
    server: ServerName,
  ): Promise<Result<Event, VerificationProblem>> {
    const signatures = Object.hasOwn(event.pdu.signatures, server)
      ? Object.keys(event.pdu.signatures[server]!)
      : [];
    let good = 0;
    let unavailable = false;
    for (const id of signatures.slice(0, MAX_SIGNATURES)) {
      const keyId = parseKeyId(id);
      if (!keyId.ok || !id.startsWith('ed25519:')) continue;
      const { key, failed } = await this.#find(server, keyId.value, event.pdu.origin_server_ts, version);
      unavailable ||= failed;
      const publicKey = key && fromBase64(key.publicKey);
      if (publicKey === undefined) continue;
      if (!verifyEventSignature(event.pdu, version, server, keyId.value, publicKey)) {
        return invalid(`the signature of ${server} is wrong`);
      }
      good++;
    }
    if (good > 0) return ok(event);
    if (unavailable) return bad({ kind: 'no_key', reason: `the keys of ${server} cannot be had now` });
    return invalid(`no signature of ${server} by a key that was valid then`);
  }

  /**
   * The key, where it was valid at `at`; for an event of a room version that does not check that, also one that nobody
   * has refreshed since, as long as it is not retired. `failed`: its server could not be asked, so that nothing is known for
   * sure.
   */
  async #find(
    server: ServerName,
    keyId: KeyId,
    at: Millis,
    version?: RoomVersion,
  ): Promise<{ readonly key: StoredKey | undefined; readonly failed: boolean }> {
    const { serverName, signingKey, clock, retiredKeys = [] } = this.#options;
    const isLoose = version?.checksKeyValidity === false;
    const validThen = (keys: readonly StoredKey[]): StoredKey | undefined =>
      keys.find((key) => key.keyId === keyId && (key.validUntil >= at || (isLoose && !key.retired)));
    if (server === serverName)
      return { key: validThen([ownStoredKey(signingKey), ...retiredKeys]), failed: false };
    const known = await this.#stored(server);
    const key = validThen(known);
    if (key !== undefined) return { key, failed: false };
    // Asking again changes nothing where the key is retired or the event comes from further in the future than any
    // key may be believed.
    const isFinal = known.some((one) => one.keyId === keyId && one.retired);
    if (isFinal || at > clock.wall() + MAX_KEY_VALIDITY_MS) return { key: undefined, failed: false };
    const answered = await this.#fetch(server, this.#options.transports.kindFor(server), known.length > 0);
    return { key: validThen(await this.#stored(server)), failed: !answered };
  }

  async #stored(server: ServerName): Promise<readonly StoredKey[]> {
    const cached = this.#keys.get(server);
    if (cached !== undefined) return cached;
    const stores = this.#stores;
    const keys = await keysOf(this.#options.database, server);
    // What was read before something was stored is not worth keeping.
    if (stores === this.#stores) this.#keys.set(server, keys);
    return keys;
  }

  /** @param isConfirmation these are all that the key API confirms, so that what it told before counts no more */
  async #store(server: ServerName, keys: readonly StoredKey[], isConfirmation = false): Promise<void> {
    await this.#options.database.transaction(async (tx) => {
      if (isConfirmation) await unconfirmKeys(tx, server);
      for (const key of keys) await putKey(tx, server, key);
      tx.afterCommit(() => {
        this.#stores++;
        this.#keys.delete(server);
      });
    });
  }

  /** Asks a server for its keys, once for all who want them at the time. False: it did not answer, or was not asked. */
  #fetch(server: ServerName, kind: TransportKind, isKnown: boolean): Promise<boolean> {
    const id = fetchId(server, kind);
    const last = this.#fetched.get(id);
    if (last !== undefined && this.#options.clock.monotonic() < last.notBefore) return Promise.resolve(false);
    const running = this.#fetching.get(id);
    if (running !== undefined) return running;
    const fetch = this.#slots[isKnown ? 'known' : 'strangers']
      .run(() => this.#fetchNow(server, kind))
      .then((problem) => {
        // Undefined: so many fetches wait that this one has not been made. That says nothing about the server.
        if (problem === undefined) return false;
        this.#noteFetch(id, server, problem);
        return problem === '';
      })
      .finally(() => this.#fetching.delete(id));
    this.#fetching.set(id, fetch);
    return fetch;
  }

  /** Fetches, checks and stores. Returns what went wrong, or nothing as an empty text. */
  async #fetchNow(server: ServerName, kind: TransportKind): Promise<string> {
    const { clock, database, transports, serverName } = this.#options;
    const mayComeItself = kind === 'pipe' && server < serverName && (await this.#stored(server)).length === 0;
    if (mayComeItself) {
      await sleep(clock, FIRST_WORD_MS);
      if ((await this.#stored(server)).length > 0) return '';
    }
    try {
      const keys = await requestKeys(
        (call) => transports.request(server, call, kind),
        server,
        () => clock.wall(),
        kind === 'pipe' ? () => this.#boundKey(server) : undefined,
      );
      if (!keys.ok) return keys.problem;
      if (kind === 'pipe') {
        const peer = await pipePeer(database, server);
        const isBound = keys.value.some(
          (key) => !key.retired && key.keyId === peer?.signingKeyId && key.publicKey === peer.signingKey,
        );
        if (!isBound) return 'the key that its pipe is bound to is not among them';
      }
      await this.#store(
        server,
        keys.value.map((key) =>
          kind === 'https' && !key.retired ? { ...key, confirmedUntil: key.validUntil } : key,
        ),
        kind === 'https',
      );
      return '';
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  /** The key to which a server's accepted pipe identity is bound, believed from now on. */
  async #boundKey(server: ServerName): Promise<StoredKey | undefined> {
    const peer = await pipePeer(this.#options.database, server);
    const validUntil = this.#options.clock.wall() + MAX_KEY_VALIDITY_MS;
    return (
      peer && {
        ...{ keyId: peer.signingKeyId as KeyId, publicKey: peer.signingKey },
        ...{ validUntil, retired: false, confirmedUntil: 0 },
      }
    );
  }

  #noteFetch(id: string, server: ServerName, problem: string): void {
    const now = this.#options.clock.monotonic();
    if (problem === '') {
      this.#fetched.set(id, { notBefore: now + MIN_FETCH_INTERVAL_MS, failures: 0 });
      return;
    }
    const failures = (this.#fetched.get(id)?.failures ?? 0) + 1;
    const wait = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** (failures - 1));
    this.#fetched.set(id, { notBefore: now + wait, failures });
    this.#options.log.info({ server, problem }, 'keys of a server could not be fetched');
  }
}

interface KeyRingOptions {
  readonly serverName: ServerName;
  readonly signingKey: SigningKey;
  /** What this server signed with before. */
  readonly retiredKeys?: readonly StoredKey[];
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  readonly transports: Pick<Transports, 'kindFor' | 'request'>;
}

const fetchId = (server: ServerName, kind: TransportKind): string => `${kind} ${server}`;

const invalid = (reason: string): Result<never, VerificationProblem> => bad({ kind: 'invalid', reason });

function ownStoredKey(key: SigningKey): StoredKey {
  return {
    keyId: key.keyId,
    publicKey: base64(key.publicKey),
    validUntil: Number.MAX_SAFE_INTEGER,
    retired: false,
    confirmedUntil: 0,
  };
}
