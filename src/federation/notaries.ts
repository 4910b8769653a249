import type { Clock, Millis } from '../base/time.ts';
import type { KeyId, ServerName } from '../matrix/ids.ts';
import { isJsonObject, own } from '../matrix/json.ts';
import { MAX_KEY_VALIDITY_MS, parseNotaryDocument } from './key_document.ts';
import { Backoff } from './key_fetches.ts';
import { isKnown, type KnownKeys } from './known_keys.ts';
import type { Log } from './log.ts';
import type { Transports } from './transports.ts';

export const QUERY_PATH = '/_matrix/key/v2/query';
/** Servers in one request, and the most that one who asks us may name. */
export const MAX_QUERIED = 100;
/** Documents of one server in an answer: one for each key that it has had, where a notary has kept several. */
const MAX_DOCUMENTS_OF_SERVER = 4;
/** The notary may have to ask these servers itself. */
const TIMEOUT_MS: Millis = 60_000;

interface NotariesOptions {
  /** In the order in which they are asked. */
  readonly names: readonly ServerName[];
  readonly transports: Pick<Transports, 'request'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly serverName: ServerName;
  readonly known: KnownKeys;
  /** A notary's own key, as it has told it itself. */
  readonly keyOf: (notary: ServerName, keyId: KeyId) => Promise<Uint8Array | undefined>;
  /** Whether the operator has named the one key of a server. */
  readonly isPinned: ((server: ServerName) => Promise<boolean>) | undefined;
}

/** Asks notaries for the keys of other servers (server-server API, "Querying keys through another server"). */
export class Notaries {
  readonly #options: NotariesOptions;

  readonly #backoff: Backoff;
  readonly #asking = new Map<ServerName, Promise<unknown>>();

  constructor(options: NotariesOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.clock);
  }

  /**
   * Has them tell the keys of servers of which nothing is known, all together.
   * @param wanted servers, and the Unix time in milliseconds up to which their keys have to be valid
   */
  async prepare(wanted: ReadonlyMap<ServerName, Millis>): Promise<void> {
    const asked: ServerName[] = [];
    const underWay = new Set<Promise<unknown>>();
    for (const [server, at] of wanted) {
      if (!(await this.#isForNotaries(server, at))) continue;
      const asking = this.#asking.get(server);
      if (asking === undefined) asked.push(server);
      else underWay.add(asking);
    }
    if (asked.length > 0) {
      const asking = this.#ask(asked).finally(() => {
        for (const server of asked) this.#asking.delete(server);
      });
      for (const server of asked) this.#asking.set(server, asking);
      underWay.add(asking);
    }
    await Promise.all(underWay);
  }

  /** Who has told its keys itself is asked itself, and nobody else's word is taken where the operator has named the key. */
  async #isForNotaries(server: ServerName, at: Millis): Promise<boolean> {
    const { names, serverName, clock, known, isPinned } = this.#options;
    if (names.length === 0 || server === serverName || names.includes(server)) return false;
    if (at > clock.wall() + MAX_KEY_VALIDITY_MS || !this.#backoff.mayTry(server)) return false;
    const keys = await known.of(server);
    if (isKnown(keys) || keys.some(({ validUntil, retired }) => validUntil >= at && !retired)) return false;
    return (await isPinned?.(server)) !== true;
  }

  /** Asks for many servers at a time, the next notary for what the ones before did not know. */
  async #ask(servers: readonly ServerName[]): Promise<void> {
    const told = new Set<ServerName>();
    for (const notary of this.#options.names) {
      const left = servers.filter((server) => !told.has(server));
      for (let at = 0; at < left.length; at += MAX_QUERIED)
        for (const server of await this.#askOne(notary, left.slice(at, at + MAX_QUERIED))) told.add(server);
    }
    for (const server of servers) this.#backoff.note(server, told.has(server));
  }

  async #askOne(notary: ServerName, servers: readonly ServerName[]): Promise<ReadonlySet<ServerName>> {
    const { transports, log } = this.#options;
    const told = new Set<ServerName>();
    try {
      const { body } = await transports.request(notary, {
        method: 'POST',
        path: QUERY_PATH,
        body: { server_keys: Object.fromEntries(servers.map((server) => [server, {}])) },
        timeoutMs: TIMEOUT_MS,
        priority: 1,
      });
      const documents = isJsonObject(body) ? own(body, 'server_keys') : undefined;
      if (!Array.isArray(documents)) throw new Error('its answer has no list of keys');
      for (const document of documents.slice(0, MAX_DOCUMENTS_OF_SERVER * servers.length)) {
        const problem = await this.#take(document, new Set(servers), notary, told);
        if (problem !== undefined) log.warn({ notary, problem }, 'a notary has answered with a bad document');
      }
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      log.info({ notary, problem }, 'a notary could not be asked');
    }
    return told;
  }

  /** Returns what is wrong with a document, where something is. */
  async #take(
    document: Parameters<typeof parseNotaryDocument>[0],
    asked: ReadonlySet<ServerName>,
    notary: ServerName,
    told: Set<ServerName>,
  ): Promise<string | undefined> {
    const { clock, keyOf, known } = this.#options;
    const by = { notary, keyOf: (keyId: KeyId) => keyOf(notary, keyId) };
    const parsed = await parseNotaryDocument(document, asked, by, clock.wall());
    if (!parsed.ok) return parsed.problem;
    await known.storeOfNotary(parsed.value.server, parsed.value.keys, notary);
    told.add(parsed.value.server);
    return undefined;
  }
}
