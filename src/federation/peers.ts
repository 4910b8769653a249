import { base64, equal, fromBase64, fromHex, hex } from '../base/bytes.ts';
import type { Clock } from '../base/time.ts';
import { sha256 } from '../crypto/sha256.ts';
import { type KeyId, parseKeyId, parseServerName, type ServerName } from '../matrix/ids.ts';
import type { Database, Transaction } from '../storage/database.ts';
import { type PipePeer, pipePeer, putPipePeer, type TrustKind } from '../storage/pipe_peers.ts';
import type { Log } from './log.ts';
import type { PeerEntry, PeerTrust } from './transports.ts';

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
  readonly noiseKey: string;
  readonly serial: number;
}

const refuse = (reason: string): Verdict => ({ trusted: false, reason });
const TRUSTED: Verdict = { trusted: true };

/**
 * Decides whose identity in the pipe is accepted (TrustPolicy of the exchange socket).
 *
 * Two questions: is the signing key that of the server, and is the Noise key the one that this signing key speaks for
 * now? The first is answered as the configuration says for the peer, `verified` where it says nothing; a key that
 * differs from the one accepted before, or from what the key API told over HTTPS, always needs the key API. The second
 * by the serial: another Noise key under the same signing key needs a higher one, so that an old identity that leaked
 * or was restored from a backup cannot take the place of its successor.
 */
export class Peers {
  readonly #serverName: ServerName;
  readonly #trust: ReadonlyMap<ServerName, PeerTrust>;
  readonly #defaultTrust: 'verified' | 'tofu';
  readonly #keys: KeyAuthority;
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #log: Log;

  constructor({
    serverName,
    peers,
    defaultTrust,
    keys,
    database,
    clock,
    log,
  }: {
    readonly serverName: ServerName;
    readonly peers: readonly PeerEntry[];
    readonly defaultTrust: 'verified' | 'tofu';
    readonly keys: KeyAuthority;
    readonly database: Database;
    readonly clock: Clock;
    readonly log: Log;
  }) {
    this.#serverName = serverName;
    this.#trust = new Map(
      peers.flatMap((peer) => (peer.trust === undefined ? [] : [[peer.serverName, peer.trust]])),
    );
    this.#defaultTrust = defaultTrust;
    this.#keys = keys;
    this.#database = database;
    this.#clock = clock;
    this.#log = log;
  }

  /** Accepts or refuses an identity; what is accepted is remembered before this resolves. */
  async decide(claim: PipeClaim): Promise<Verdict> {
    const server = parseServerName(claim.serverName);
    const keyId = parseKeyId(claim.signingKeyId);
    if (!server.ok || !keyId.ok) return refuse('the identity has a malformed name');
    if (server.value === this.#serverName) return refuse('the identity claims to be this server');
    const parsed: Claim = {
      server: server.value,
      keyId: keyId.value,
      signingPublic: claim.signingPublic,
      signingKey: base64(claim.signingPublic),
      noiseKey: base64(claim.noisePublic),
      serial: claim.serial,
    };
    const verdict = await this.#judge(parsed);
    if (!verdict.trusted) {
      this.#log.warn(
        {
          server: parsed.server,
          keyId: parsed.keyId,
          fingerprint: fingerprint(parsed.signingPublic),
          reason: verdict.reason,
        },
        'the identity of a pipe was refused',
      );
    }
    return verdict;
  }

  async #judge(claim: Claim): Promise<Verdict> {
    const trust = this.#trust.get(claim.server) ?? this.#defaultTrust;
    const known = await pipePeer(this.#database, claim.server);
    const refusal = await this.#refusalOfSigningKey(claim, trust, known);
    if (refusal !== undefined) return refuse(refusal);
    const kind = typeof trust === 'string' ? trust : 'pinned';
    const stored = await this.#database.transaction((tx) => this.#accept(tx, claim, kind, known));
    if (!stored.trusted) return stored;
    if (kind !== 'verified')
      await this.#keys.acceptClaimedKey(claim.server, claim.keyId, claim.signingPublic);
    return TRUSTED;
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
    if (trust === 'tofu') {
      const isFirst = known === undefined && !(await this.#keys.hasConfirmedKeys(claim.server));
      if (isFirst || (known !== undefined && hasSigningKey(known, claim))) return undefined;
    }
    if (await this.#keys.isConfirmed(claim.server, claim.keyId, claim.signingPublic)) return undefined;
    return trust === 'tofu'
      ? 'the signing key is another than before and the key API does not confirm it'
      : 'the key API does not confirm the signing key';
  }

  /** The check of the Noise key, in the transaction that stores it: two claims at once cannot both be the first. */
  async #accept(
    tx: Transaction,
    claim: Claim,
    trust: TrustKind,
    judged: PipePeer | undefined,
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
      lastSeen: now,
    });
    if (known === undefined || rotated || !sameSigner) {
      const fields = {
        server: claim.server,
        trust,
        keyId: claim.keyId,
        fingerprint: fingerprint(claim.signingPublic),
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
  if (pin.startsWith('ed25519:')) {
    const key = fromBase64(pin.slice('ed25519:'.length));
    return key !== undefined && equal(key, signingPublic);
  }
  const digest = sha256(signingPublic);
  return [fromHex(pin), fromBase64(pin)].some((pinned) => pinned !== undefined && equal(pinned, digest));
}

const hasSigningKey = (peer: PipePeer, claim: Claim): boolean =>
  peer.signingKeyId === claim.keyId && peer.signingKey === claim.signingKey;
