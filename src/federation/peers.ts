import { base64, fromBase64, hex } from '../base/bytes.ts';
import type { Clock, Millis } from '../base/time.ts';
import { sha256 } from '../crypto/sha256.ts';
import { type KeyId, parseKeyId, parseServerName, type ServerName } from '../matrix/ids.ts';
import type { Database, Transaction } from '../storage/database.ts';
import {
  forgetWaitingKey,
  isWorthNoting,
  noteWaitingKey,
  pipePin,
  waitingKeys,
} from '../storage/peer_trust.ts';
import { type PipePeer, pipePeer, putPipePeer, sawPipePeer, type TrustKind } from '../storage/pipe_peers.ts';
import { parseFingerprint } from './fingerprints.ts';
import type { Log } from './log.ts';
import type { PeerEntry, PeerTrust } from './transports.ts';

/** How often the operator's decisions are looked at while a server is heard, and how exact it is when it was heard last. */
const LOOK_AGAIN_MS: Millis = 10_000;
const SEEN_INTERVAL_MS: Millis = 60 * 60 * 1000;
/** Servers of which it is remembered when that was; past it remembering begins anew. */
const MAX_HEARD = 4_096;

/** Who a peer of the pipe says it is; the signature that binds these together has been checked. */
export interface PipeClaim {
  readonly serverName: string;
  readonly noisePublic: Uint8Array;
  readonly signingKeyId: string;
  readonly signingPublic: Uint8Array;
  /** Grows with each new Noise key. */
  readonly serial: number;
}

export type Verdict = { readonly trusted: true } | { readonly trusted: false; readonly reason: string };

/** What the key API knows of a server; the key ring. */
export interface KeyAuthority {
  isConfirmed(server: ServerName, keyId: KeyId, publicKey: Uint8Array): Promise<boolean>;
  hasConfirmedKeys(server: ServerName): Promise<boolean>;
  acceptClaimedKey(server: ServerName, keyId: KeyId, publicKey: Uint8Array): Promise<void>;
}

/** A claim whose names have been parsed. */
interface Claim {
  readonly server: ServerName;
  readonly keyId: KeyId;
  readonly signingPublic: Uint8Array;
  readonly signingKey: string;
  readonly fingerprint: string;
  readonly noiseKey: string;
  readonly serial: number;
}

const refuse = (reason: string): Verdict => ({ trusted: false, reason });
const TRUSTED: Verdict = { trusted: true };

/**
 * Decides whose identity in the pipe is accepted (TrustPolicy of the exchange socket).
 *
 * Two questions: is the signing key that of the server, and is the Noise key the one that this signing key speaks for
 * now? The first is answered by the fingerprint that the configuration pins, else by the one that the operator has pinned
 * by command, else as the configuration says for the peer, `verified` where it says nothing. A key that differs from the
 * one accepted before is stopped, and waits for the operator: only under `verified`, where the key API has the last word
 * in any case, its confirmation is enough. The second by the serial: another Noise key under the same signing key needs
 * a higher one, so that an old identity that leaked or was restored from a backup cannot take the place of its successor.
 */
export class Peers {
  readonly #serverName: ServerName;
  readonly #trust: ReadonlyMap<ServerName, PeerTrust | undefined>;
  readonly #defaultTrust: 'verified' | 'tofu';
  readonly #keys: KeyAuthority;
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #forget: (server: ServerName, reason: string) => void;
  /** When it was last looked whether a server is still welcome. */
  readonly #looked = new Map<ServerName, Millis>();

  /** @param forget ends everything with a server that the operator wants no more */
  constructor({
    serverName,
    peers,
    defaultTrust,
    keys,
    database,
    clock,
    log,
    forget = () => {},
  }: {
    readonly serverName: ServerName;
    readonly peers: readonly PeerEntry[];
    readonly defaultTrust: 'verified' | 'tofu';
    readonly keys: KeyAuthority;
    readonly database: Database;
    readonly clock: Clock;
    readonly log: Log;
    readonly forget?: (server: ServerName, reason: string) => void;
  }) {
    this.#serverName = serverName;
    this.#trust = new Map(peers.map((peer) => [peer.serverName, peer.trust]));
    this.#defaultTrust = defaultTrust;
    this.#keys = keys;
    this.#database = database;
    this.#clock = clock;
    this.#log = log;
    this.#forget = forget;
  }

  /**
   * Accepts or refuses an identity; what is accepted is remembered before this resolves.
   * @param isResumed it was accepted before a start, and nothing has come from it since
   */
  async decide(claim: PipeClaim, isResumed = false): Promise<Verdict> {
    const server = parseServerName(claim.serverName);
    const keyId = parseKeyId(claim.signingKeyId);
    if (!server.ok || !keyId.ok) return refuse('the identity has a malformed name');
    if (server.value === this.#serverName) return refuse('the identity claims to be this server');
    const parsed: Claim = {
      server: server.value,
      keyId: keyId.value,
      signingPublic: claim.signingPublic,
      signingKey: base64(claim.signingPublic),
      fingerprint: fingerprint(claim.signingPublic),
      noiseKey: base64(claim.noisePublic),
      serial: claim.serial,
    };
    return this.#judge(parsed, isResumed);
  }

  /** Whether the operator has named the one signing key that a server may have. */
  async isPinned(server: ServerName): Promise<boolean> {
    return typeof (await this.#trustOf(server)) === 'object';
  }

  /**
   * Something has come from a server through a pipe. Notes it, and looks whether the operator has forgotten that server or pinned
   * another key of it meanwhile, which a command does in the database. Never rejects.
   */
  async heard(peer: string): Promise<void> {
    const server = parseServerName(peer);
    const now = this.#clock.monotonic();
    if (!server.ok || now - (this.#looked.get(server.value) ?? Number.NEGATIVE_INFINITY) < LOOK_AGAIN_MS)
      return;
    if (this.#looked.size >= MAX_HEARD) this.#looked.clear();
    this.#looked.set(server.value, now);
    try {
      await this.#lookAt(server.value);
    } catch (err) {
      this.#log.warn({ server: server.value, err }, 'what is known of a peer could not be looked at');
    }
  }

  async #lookAt(server: ServerName): Promise<void> {
    const now = this.#clock.wall();
    const known = await pipePeer(this.#database, server);
    const trust = await this.#trustOf(server);
    const signingPublic = known && fromBase64(known.signingKey);
    if (known === undefined || signingPublic === undefined) {
      this.#forget(server, 'forgotten by the operator');
    } else if (typeof trust === 'object' && !matchesPin(trust.pinned, signingPublic)) {
      this.#forget(server, 'the signing key is not the pinned one');
    } else if (now - known.lastSeen >= SEEN_INTERVAL_MS) {
      await this.#database.transaction((tx) => sawPipePeer(tx, server, now));
    }
  }

  async #judge(claim: Claim, isResumed: boolean): Promise<Verdict> {
    const trust = await this.#trustOf(claim.server);
    const known = await pipePeer(this.#database, claim.server);
    const refusal = await this.#refusalOfSigningKey(claim, trust, known);
    if (refusal !== undefined) {
      await this.#stop(claim, known, refusal);
      return refuse(refusal);
    }
    const kind = typeof trust === 'string' ? trust : 'pinned';
    const stored = await this.#database.transaction((tx) =>
      this.#accept(tx, claim, kind, { judged: known, isResumed }),
    );
    if (!stored.trusted) {
      this.#log.warn({ ...fieldsOf(claim), reason: stored.reason }, 'the identity of a pipe was refused');
      return stored;
    }
    if (kind !== 'verified')
      await this.#keys.acceptClaimedKey(claim.server, claim.keyId, claim.signingPublic);
    return TRUSTED;
  }

  /** What the configuration pins goes before what was pinned by command, and that before everything else. */
  async #trustOf(server: ServerName): Promise<PeerTrust> {
    const configured = this.#trust.get(server);
    if (typeof configured === 'object') return configured;
    const pin = await pipePin(this.#database, server);
    return pin === undefined ? (configured ?? this.#defaultTrust) : { pinned: pin.fingerprint };
  }

  async #refusalOfSigningKey(
    claim: Claim,
    trust: PeerTrust,
    known: PipePeer | undefined,
  ): Promise<string | undefined> {
    if (typeof trust === 'object') {
      return matchesPin(trust.pinned, claim.signingPublic)
        ? undefined
        : 'the signing key is not the pinned one';
    }
    if (trust === 'tofu' && known !== undefined)
      return hasSigningKey(known, claim) ? undefined : 'the signing key is another than before';
    if (trust === 'tofu' && !(await this.#keys.hasConfirmedKeys(claim.server))) return undefined;
    if (await this.#keys.isConfirmed(claim.server, claim.keyId, claim.signingPublic)) return undefined;
    return 'the key API does not confirm the signing key';
  }

  /**
   * Tells the operator of a signing key that was not accepted. That of a server which has to do with this one waits for
   * his decision; strangers could fill the disk.
   */
  async #stop(claim: Claim, known: PipePeer | undefined, reason: string): Promise<void> {
    const isNew = known !== undefined && !hasSigningKey(known, claim);
    const fields = { ...fieldsOf(claim), reason, ...(isNew && knownFields(known)) };
    this.#log.warn(
      fields,
      isNew
        ? 'a new signing key was stopped: it is a new key of that server or somebody else; the operator decides (ravine peers)'
        : 'the identity of a pipe was refused',
    );
    const now = this.#clock.wall();
    const isExpected = known !== undefined || this.#trust.has(claim.server);
    if (!isExpected && (await pipePin(this.#database, claim.server)) === undefined) return;
    const waiting = await waitingKeys(this.#database, claim.server);
    if (!isWorthNoting(waiting, claim.fingerprint, now)) return;
    await this.#database.transaction((tx) =>
      noteWaitingKey(tx, {
        serverName: claim.server,
        fingerprint: claim.fingerprint,
        signingKeyId: claim.keyId,
        reason,
        lastSeen: now,
      }),
    );
  }

  /** The check of the Noise key, in the transaction that stores it: two claims at once cannot both be the first. */
  async #accept(
    tx: Transaction,
    claim: Claim,
    trust: TrustKind,
    { judged, isResumed }: { readonly judged: PipePeer | undefined; readonly isResumed: boolean },
  ): Promise<Verdict> {
    const known = await pipePeer(tx, claim.server);
    const now = this.#clock.wall();
    const sameSigner = known !== undefined && hasSigningKey(known, claim);
    if (known?.signingKey !== judged?.signingKey && !sameSigner) {
      return refuse('another signing key was accepted at the same time');
    }
    const rotated = sameSigner && known.noiseKey !== claim.noiseKey;
    if (rotated && claim.serial <= known.serial) {
      return refuse(`another Noise key with serial ${claim.serial}, which is not above ${known.serial}`);
    }
    await putPipePeer(tx, {
      serverName: claim.server,
      noiseKey: claim.noiseKey,
      signingKeyId: claim.keyId,
      signingKey: claim.signingKey,
      trust,
      serial: sameSigner ? Math.max(known.serial, claim.serial) : claim.serial,
      firstSeen: now,
      lastSeen: isResumed && known !== undefined ? known.lastSeen : now,
    });
    await forgetWaitingKey(tx, claim.server, claim.fingerprint);
    if (known === undefined || rotated || !sameSigner) {
      const fields = {
        ...fieldsOf(claim),
        trust,
        ...(known !== undefined && !sameSigner && knownFields(known)),
      };
      const what =
        known === undefined ? 'a new pipe peer' : sameSigner ? 'a new Noise key' : 'a new signing key';
      const level = known === undefined || sameSigner ? 'info' : 'warn';
      tx.afterCommit(() => this.#log[level]({ ...fields, serial: claim.serial }, `${what} was accepted`));
    }
    return TRUSTED;
  }
}

/** The SHA-256 of a signing key in hexadecimal: what operators compare, and one form of a pin. */
export const fingerprint = (signingPublic: Uint8Array): string => hex(sha256(signingPublic));

/** Whether a pin (see PeerTrust) names this key. */
export function matchesPin(pin: string, signingPublic: Uint8Array): boolean {
  const pinned = parseFingerprint(pin);
  return pinned.ok && pinned.value === fingerprint(signingPublic);
}

const hasSigningKey = (peer: PipePeer, claim: Claim): boolean =>
  peer.signingKeyId === claim.keyId && peer.signingKey === claim.signingKey;

const fieldsOf = ({ server, keyId, fingerprint }: Claim) => ({ server, keyId, fingerprint });

/** The two keys are compared by whoever reads the log. */
const knownFields = ({ signingKeyId, signingKey }: PipePeer) => ({
  knownKeyId: signingKeyId,
  knownFingerprint: fingerprint(fromBase64(signingKey) ?? new Uint8Array()),
});
