import { base64, fromBase64 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { Clock, Millis } from '../base/time.ts';
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
import { keyDocumentOf, type StoredKey } from '../storage/server_keys.ts';
import { MAX_KEY_VALIDITY_MS, ownKeyDocument } from './key_document.ts';
import { KeyFetches } from './key_fetches.ts';
import { KnownKeys } from './known_keys.ts';
import type { Log } from './log.ts';
import { Notaries } from './notaries.ts';
import type { TransportKind, Transports } from './transports.ts';
import type { RequestKeys } from './x_matrix.ts';

/** Why an event is not accepted. `no_key`: its server's keys could not be asked for now, so it may be good. */
export interface VerificationProblem {
  readonly kind: 'invalid' | 'no_key';
  readonly reason: string;
}

/** Signatures of one server that are looked at on one event. */
const MAX_SIGNATURES = 8;

/** A handshake during the first attempt may tell a key that is not the one that is wanted. */
const MAX_ATTEMPTS = 2;
/** The keys of all servers: publishes ours, fetches and keeps those of others, and checks events with them. */
export class KeyRing implements EventVerifier, RequestKeys {
  readonly #options: KeyRingOptions;
  readonly #known: KnownKeys;
  readonly #fetches: KeyFetches;
  readonly #notaries: Notaries;

  constructor(options: KeyRingOptions) {
    this.#options = options;
    const { serverName, database, notaries = [], isPinned, transports, clock, log } = options;
    this.#known = new KnownKeys(database);
    const common = { serverName, transports, clock, log, known: this.#known };
    this.#fetches = new KeyFetches({ ...common, database });
    this.#notaries = new Notaries({
      ...common,
      names: notaries.filter((name) => name !== serverName),
      isPinned,
      keyOf: (notary, keyId) => this.requestKey(notary, keyId, clock.wall()),
    });
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
    const isConfirmed =
      confirms(await this.#known.of(server)) ||
      ((await this.#fetches.fetch(server, 'https')) === 'answered' && confirms(await this.#known.of(server)));
    if (isConfirmed) this.#fetches.told(server);
    return isConfirmed;
  }

  /** Whether the key API over HTTPS has ever told keys of this server, so that others need its confirmation. */
  async hasConfirmedKeys(server: ServerName): Promise<boolean> {
    return (await this.#known.of(server)).some((key) => key.confirmedUntil > 0);
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
    await this.#known.store(server, [claimed]);
    this.#fetches.told(server);
  }

  /** See EventChecker. */
  prepare(servers: ReadonlyMap<ServerName, Millis>): Promise<void> {
    return this.#notaries.prepare(servers);
  }

  /**
   * The key document of a server as it has signed it, for others who ask this one as a notary: the one that is kept, or a new one where
   * that ends before `until`. Undefined: there is none.
   * @param through what may be used to ask for it
   */
  async document(
    server: ServerName,
    until: Millis,
    through: readonly TransportKind[],
  ): Promise<JsonObject | undefined> {
    const { database, serverName, transports } = this.#options;
    if (server === serverName) return this.ownKeys();
    const kept = await keyDocumentOf(database, server);
    const kind = transports.kindFor(server);
    if ((kept !== undefined && kept.validUntil >= until) || !through.includes(kind)) return kept?.document;
    await this.#fetches.fetch(server, kind, 'document');
    return (await keyDocumentOf(database, server))?.document;
  }

  /** The server has just spoken to us: it may be asked again although it did not answer before. */
  peerSpoke(server: ServerName): void {
    this.#fetches.peerSpoke(server);
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
      keys.find(
        (key) =>
          key.keyId === keyId &&
          // Of who speaks for himself nobody else's word is taken.
          (version !== undefined || key.notary === undefined) &&
          (key.validUntil >= at || (isLoose && !key.retired)),
      );
    if (server === serverName)
      return { key: validThen([ownStoredKey(signingKey), ...retiredKeys]), failed: false };
    const known = await this.#known.of(server);
    const key = validThen(known);
    if (key !== undefined) return { key, failed: false };
    // Asking again changes nothing where the key is retired or the event comes from further in the future than any
    // key may be believed.
    const isFinal = known.some((one) => one.keyId === keyId && one.retired && one.notary === undefined);
    if (isFinal || at > clock.wall() + MAX_KEY_VALIDITY_MS) return { key: undefined, failed: false };
    if (version !== undefined) {
      await this.prepare(new Map([[server, at]]));
      const told = validThen(await this.#known.of(server));
      if (told !== undefined) return { key: told, failed: false };
    }
    return this.#ask(server, validThen);
  }

  /** Asks the server itself, and once more where the key that its handshake has told is not the one that is wanted. */
  async #ask(
    server: ServerName,
    choose: (keys: readonly StoredKey[]) => StoredKey | undefined,
  ): Promise<{ readonly key: StoredKey | undefined; readonly failed: boolean }> {
    const kind = this.#options.transports.kindFor(server);
    for (let attempt = 1; ; attempt++) {
      const outcome = await this.#fetches.fetch(server, kind);
      const key = choose(await this.#known.of(server));
      if (key !== undefined || outcome !== 'told' || attempt === MAX_ATTEMPTS)
        return { key, failed: key === undefined && outcome !== 'answered' };
    }
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
  /** Servers whose word on the keys of others is taken, in the order in which they are asked. Left out: none. */
  readonly notaries?: readonly ServerName[];
  /** Whether the operator has named the one key of a server. */
  readonly isPinned?: (server: ServerName) => Promise<boolean>;
}

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
