import { fromBase64 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { Clock, Millis } from '../base/time.ts';
import type { KeyId, ServerName } from '../matrix/ids.ts';
import type { Database, Reader } from '../storage/database.ts';
import {
  forgetPipePeer,
  type PipePin,
  pipePins,
  putPipePin,
  type SessionSummary,
  sessionSummaries,
  type WaitingKey,
  waitingKeys,
} from '../storage/peer_trust.ts';
import { type PipePeer, pipePeers, type TrustKind } from '../storage/pipe_peers.ts';
import { parseFingerprint } from './fingerprints.ts';
import { fingerprint } from './peers.ts';
import type { PeerEntry } from './transports.ts';

/**
 * How it is with a server in the pipe. `waiting`: a signing key was stopped and waits for the operator. `mismatch`: the
 * key that was accepted is not the one that is pinned now, so that the next handshake is refused unless it brings that
 * one. `session`: there is one, and a restart goes on with it. `known`: it was accepted before. `unseen`: never.
 */
export type PeerState = 'waiting' | 'mismatch' | 'session' | 'known' | 'unseen';

/** What is known of one server in the pipe. Instants are Unix time in milliseconds. */
export interface PeerSummary {
  readonly serverName: ServerName;
  readonly state: PeerState;
  /** As in the configuration; undefined where it is not there. */
  readonly address: string | undefined;
  /** Where it was last, in its link's notation. */
  readonly lastAddress: string | undefined;
  /** What decides about its signing key now, and who says so. */
  readonly trust: TrustKind;
  readonly trustSource: 'configuration' | 'command' | 'default';
  /** The fingerprint of the one key that is taken; undefined where none is pinned, or the configuration's makes no sense. */
  readonly pinned: string | undefined;
  /** What was accepted last. */
  readonly accepted:
    | {
        readonly keyId: KeyId;
        readonly fingerprint: string;
        /** What made us accept it. */
        readonly trust: TrustKind;
        readonly serial: number;
        readonly firstSeen: Millis;
        readonly lastSeen: Millis;
      }
    | undefined;
  readonly sessions: number;
  readonly waiting: readonly WaitingKey[];
}

/** What an operator sees of the servers in the pipe, and what he decides about them. See Peers for what comes of it. */
export class PeerDirectory {
  readonly #serverName: ServerName;
  readonly #peers: readonly PeerEntry[];
  readonly #defaultTrust: 'verified' | 'tofu';
  readonly #database: Database;
  readonly #clock: Clock;

  constructor({
    serverName,
    peers,
    defaultTrust,
    database,
    clock,
  }: {
    readonly serverName: ServerName;
    readonly peers: readonly PeerEntry[];
    readonly defaultTrust: 'verified' | 'tofu';
    readonly database: Database;
    readonly clock: Clock;
  }) {
    this.#serverName = serverName;
    this.#peers = peers;
    this.#defaultTrust = defaultTrust;
    this.#database = database;
    this.#clock = clock;
  }

  /** The servers in the configuration that a pipe leads to, and those that have come or are pinned; by name. */
  async list(): Promise<readonly PeerSummary[]> {
    const facts = await readFacts(this.#database);
    const inPipe = this.#peers.filter(({ address }) => !address.startsWith('https:'));
    const names = new Set([
      ...inPipe.map(({ serverName }) => serverName),
      ...facts.flatMap((rows) => rows.map(({ serverName }) => serverName)),
    ]);
    return [...names].sort().map((server) => this.#summary(server, facts));
  }

  /** One of them; a problem where nothing is known of that server. */
  async find(server: ServerName): Promise<Result<PeerSummary>> {
    const found = (await this.list()).find(({ serverName }) => serverName === server);
    return found === undefined ? bad(`Nothing is known of a server ${server}.`) : ok(found);
  }

  /**
   * Names the one signing key that a server may have in the pipe.
   * @param given in any form that `parseFingerprint` reads
   * @returns the fingerprint
   */
  async pin(server: ServerName, given: string): Promise<Result<string>> {
    const parsed = parseFingerprint(given);
    if (!parsed.ok) return bad(`That is not a fingerprint: ${parsed.problem}.`);
    if (server === this.#serverName) return bad('That is this server itself.');
    const configured = this.#configured(server);
    if (typeof configured === 'object') {
      const same = parseFingerprint(configured.pinned);
      if (!same.ok || same.value !== parsed.value)
        return bad(`The configuration pins another key of ${server}, and goes first: change it there.`);
    }
    await this.#put(server, parsed.value);
    return ok(parsed.value);
  }

  /**
   * Accepts a signing key that waits: pins it.
   * @param given its fingerprint; may be left out where only one waits
   * @returns the fingerprint
   */
  async accept(server: ServerName, given: string | undefined): Promise<Result<string>> {
    const waiting = await waitingKeys(this.#database, server);
    if (waiting.length === 0) return bad(`No signing key of ${server} waits.`);
    if (given === undefined && waiting.length > 1)
      return bad(`${waiting.length} signing keys of ${server} wait: say the fingerprint of the right one.`);
    const wanted = given === undefined ? ok(waiting[0]!.fingerprint) : parseFingerprint(given);
    if (!wanted.ok) return bad(`That is not a fingerprint: ${wanted.problem}.`);
    if (waiting.every((key) => key.fingerprint !== wanted.value))
      return bad(`No signing key of ${server} with that fingerprint waits.`);
    return this.pin(server, wanted.value);
  }

  /** Removes all that was learnt of a server in the pipe, its pin and its sessions with it; a problem where there is nothing. */
  async forget(server: ServerName): Promise<Result<{ readonly sessions: number }>> {
    const removed = await this.#database.transaction((tx) => forgetPipePeer(tx, server));
    return Object.values(removed).every((rows) => rows === 0)
      ? bad(`Nothing is stored of a server ${server}.`)
      : ok({ sessions: removed.sessions });
  }

  #put(server: ServerName, pinned: string): Promise<void> {
    const made = this.#clock.wall();
    return this.#database.transaction((tx) =>
      putPipePin(tx, { serverName: server, fingerprint: pinned, made }),
    );
  }

  #configured(server: ServerName): PeerEntry['trust'] {
    return this.#peers.find(({ serverName }) => serverName === server)?.trust;
  }

  #summary(server: ServerName, [peers, pins, waiting, sessions]: Facts): PeerSummary {
    const ofServer = <T extends { readonly serverName: ServerName }>(rows: readonly T[]): readonly T[] =>
      rows.filter(({ serverName }) => serverName === server);
    const [known] = ofServer(peers);
    const [pin] = ofServer(pins);
    const own = ofServer(sessions);
    const keys = ofServer(waiting);
    const trust = this.#trust(server, pin);
    const accepted = known && {
      keyId: known.signingKeyId,
      fingerprint: fingerprint(fromBase64(known.signingKey) ?? new Uint8Array()),
      trust: known.trust,
      serial: known.serial,
      firstSeen: known.firstSeen,
      lastSeen: known.lastSeen,
    };
    const isOther =
      trust.trust === 'pinned' && accepted !== undefined && accepted.fingerprint !== trust.pinned;
    const settled = own.length > 0 ? 'session' : accepted !== undefined ? 'known' : 'unseen';
    return {
      serverName: server,
      state: keys.length > 0 ? 'waiting' : isOther ? 'mismatch' : settled,
      address: this.#peers.find(({ serverName }) => serverName === server)?.address,
      lastAddress: own.at(-1)?.address,
      ...trust,
      accepted,
      sessions: own.length,
      waiting: keys,
    };
  }

  #trust(
    server: ServerName,
    pin: PipePin | undefined,
  ): Pick<PeerSummary, 'trust' | 'trustSource' | 'pinned'> {
    const configured = this.#configured(server);
    if (typeof configured === 'object') {
      const parsed = parseFingerprint(configured.pinned);
      return {
        trust: 'pinned',
        trustSource: 'configuration',
        pinned: parsed.ok ? parsed.value : undefined,
      };
    }
    if (pin !== undefined) return { trust: 'pinned', trustSource: 'command', pinned: pin.fingerprint };
    return {
      trust: configured ?? this.#defaultTrust,
      trustSource: configured === undefined ? 'default' : 'configuration',
      pinned: undefined,
    };
  }
}

type Facts = readonly [
  readonly PipePeer[],
  readonly PipePin[],
  readonly WaitingKey[],
  readonly SessionSummary[],
];

const readFacts = async (db: Reader): Promise<Facts> => [
  await pipePeers(db),
  await pipePins(db),
  await waitingKeys(db),
  await sessionSummaries(db),
];
