import { type Clock, type Millis, sleep } from '../base/time.ts';
import type { KeyId, ServerName } from '../matrix/ids.ts';
import type { Database } from '../storage/database.ts';
import { pipePeer } from '../storage/pipe_peers.ts';
import type { StoredKey } from '../storage/server_keys.ts';
import { BoundedMap, Slots } from './bounded.ts';
import { MAX_KEY_VALIDITY_MS, requestKeys } from './key_document.ts';
import { isKnown, type KnownKeys } from './known_keys.ts';
import type { Log } from './log.ts';
import type { TransportKind, Transports } from './transports.ts';

/** Fetches at a time, for servers that we know and for strangers: anybody can name any number of those. */
const MAX_FETCHES = 16;
const MAX_WAITING_FETCHES = 1000;
/** Documents that others want of us as their notary, and that wait to be fetched. */
const MAX_WAITING_DOCUMENTS = 100;
/** After an answer, the same server is not asked again for this long, whatever an event says of its keys. */
const MIN_FETCH_INTERVAL_MS: Millis = 10_000;
/** After the first failure; doubled by each further one. */
const FIRST_RETRY_MS: Millis = 10_000;
const MAX_RETRY_MS: Millis = 60 * 60 * 1000;
const MAX_REMEMBERED = 10_000;
/**
 * How long a server in the pipe of which nothing is known may come by itself before it is asked for its keys, where its name comes
 * first: when two servers learn of each other in a room, two handshakes at a time would be one too many.
 */
const FIRST_WORD_MS: Millis = 500;
/** Any key id: the answer is the same. */
const ANY_KEY = 'ed25519:0' as KeyId;

/** How asking a server ended. `told`: it has told its key otherwise meanwhile, so that nothing was asked. */
export type Outcome = 'answered' | 'told' | 'failed';

type FetchEnd =
  | { readonly kind: 'answered' | 'told' }
  | { readonly kind: 'failed'; readonly problem: string };

/** What is fetched: keys, for ourselves, or their document as the server has signed it, for others. */
export type Wanted = 'keys' | 'document';

interface KeyFetchesOptions {
  readonly serverName: ServerName;
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  readonly transports: Pick<Transports, 'request'>;
  readonly known: KnownKeys;
}

/** Asks servers for their own keys, each once at a time and not too often, and keeps what they answer. */
export class KeyFetches {
  readonly #options: KeyFetchesOptions;
  readonly #backoff: Backoff;
  readonly #running = new Map<string, Promise<Outcome>>();
  /** Requests that are needless once their server has told its key in a handshake. */
  readonly #waiting = new Map<ServerName, AbortController>();
  readonly #slots = {
    known: new Slots(MAX_FETCHES, MAX_WAITING_FETCHES),
    strangers: new Slots(MAX_FETCHES, MAX_WAITING_FETCHES),
    documents: new Slots(MAX_FETCHES, MAX_WAITING_DOCUMENTS),
  };

  constructor(options: KeyFetchesOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.clock);
  }

  /** The server has just spoken to us: it may be asked again although it did not answer before. */
  peerSpoke(server: ServerName): void {
    for (const kind of ['https', 'pipe'] as const)
      for (const wanted of ['keys', 'document'] as const) this.#backoff.forgive(idOf(server, kind, wanted));
  }

  /** The server has told its key in a handshake: a request that waits for that handshake is given up. */
  told(server: ServerName): void {
    this.#waiting.get(server)?.abort();
  }

  /** Asks a server for its keys, once for all who want them at the time. */
  async fetch(server: ServerName, kind: TransportKind, wanted: Wanted = 'keys'): Promise<Outcome> {
    const id = idOf(server, kind, wanted);
    const running = this.#running.get(id);
    if (running !== undefined) return running;
    if (!this.#backoff.mayTry(id)) return 'failed';
    const fetch = this.#fetch(id, server, kind, wanted).finally(() => this.#running.delete(id));
    this.#running.set(id, fetch);
    return fetch;
  }

  async #fetch(id: string, server: ServerName, kind: TransportKind, wanted: Wanted): Promise<Outcome> {
    const isStranger = !isKnown(await this.#options.known.of(server));
    const slots = this.#slots[wanted === 'document' ? 'documents' : isStranger ? 'strangers' : 'known'];
    const end = await slots.run(() => this.#fetchNow(server, kind, wanted));
    // So many fetches wait that this one has not been made. That says nothing about the server.
    if (end === undefined) return 'failed';
    if (end.kind !== 'told') this.#backoff.note(id, end.kind === 'answered');
    if (end.kind === 'failed')
      this.#options.log.info({ server, problem: end.problem }, 'keys of a server could not be fetched');
    return end.kind;
  }

  async #fetchNow(server: ServerName, kind: TransportKind, wanted: Wanted): Promise<FetchEnd> {
    const { clock, serverName, known } = this.#options;
    if (kind === 'https' || wanted === 'document') return this.#request(server, kind, { wanted });
    if (server < serverName && !isKnown(await known.of(server))) {
      await sleep(clock, FIRST_WORD_MS);
      if (isKnown(await known.of(server))) return { kind: 'told' };
    }
    const waiting = new AbortController();
    this.#waiting.set(server, waiting);
    const end = await this.#request(server, kind, { wanted, signal: waiting.signal });
    this.#waiting.delete(server);
    return waiting.signal.aborted && end.kind === 'failed' ? { kind: 'told' } : end;
  }

  /** Asks, checks and stores. */
  async #request(
    server: ServerName,
    kind: TransportKind,
    { wanted, signal }: { readonly wanted: Wanted; readonly signal?: AbortSignal },
  ): Promise<FetchEnd> {
    const { clock, database, transports, known } = this.#options;
    const throughPipe = {
      bound: () => this.#boundKey(server),
      ...(wanted === 'document' && { keyId: ANY_KEY }),
    };
    try {
      const told = await requestKeys(
        (call) => transports.request(server, { ...call, ...(signal && { signal }) }, kind),
        server,
        () => clock.wall(),
        kind === 'pipe' ? throughPipe : {},
      );
      if (!told.ok) return { kind: 'failed', problem: told.problem };
      const { keys, document } = told.value;
      if (kind === 'pipe') {
        const peer = await pipePeer(database, server);
        const isBound = keys.some(
          (key) => !key.retired && key.keyId === peer?.signingKeyId && key.publicKey === peer.signingKey,
        );
        if (!isBound)
          return { kind: 'failed', problem: 'the key that its pipe is bound to is not among them' };
      }
      // Strangers can have any number of servers asked: of those only the documents are kept, which have a bound.
      const isForOthers = wanted === 'document' && kind === 'https';
      const kept = isForOthers && (await known.of(server)).length === 0 ? [] : keys;
      await known.store(
        server,
        kept.map((key) =>
          kind === 'https' && !key.retired ? { ...key, confirmedUntil: key.validUntil } : key,
        ),
        { confirms: kind === 'https' && kept.length > 0, ...(document && { document }) },
      );
      return { kind: 'answered' };
    } catch (error) {
      return { kind: 'failed', problem: error instanceof Error ? error.message : String(error) };
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
}

/** How often something may be tried: a while after it went well, and ever less often while it fails. */
export class Backoff {
  readonly #clock: Clock;
  /** Monotonic time before which it is not tried again, and failures in a row. */
  readonly #tried = new BoundedMap<string, { readonly notBefore: Millis; readonly failures: number }>(
    MAX_REMEMBERED,
  );

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  mayTry(id: string): boolean {
    return this.#clock.monotonic() >= (this.#tried.get(id)?.notBefore ?? Number.NEGATIVE_INFINITY);
  }

  note(id: string, wasGood: boolean): void {
    const failures = wasGood ? 0 : (this.#tried.get(id)?.failures ?? 0) + 1;
    const wait = wasGood
      ? MIN_FETCH_INTERVAL_MS
      : Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** (failures - 1));
    this.#tried.set(id, { notBefore: this.#clock.monotonic() + wait, failures });
  }

  /** It may be tried again although it failed. */
  forgive(id: string): void {
    if ((this.#tried.get(id)?.failures ?? 0) > 0) this.#tried.delete(id);
  }
}

const idOf = (server: ServerName, kind: TransportKind, wanted: Wanted): string =>
  `${wanted} ${kind} ${server}`;
