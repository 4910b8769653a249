import { type Clock, type Millis, sleep } from '../base/time.ts';
import type { ServerName } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import { type SigningKey, signJson } from '../matrix/signing.ts';
import { mapBounded } from './bounded.ts';
import type { KeyRing } from './key_ring.ts';

/** Servers that are asked at a time for one who asks us. */
const PARALLEL = 16;
/** How long whoever asks may have to wait for servers that do not answer: the airtime of a few handshakes on a slow link. */
const PATIENCE_MS: Readonly<Record<Asker, Millis>> = { server: 3 * 60_000, anybody: 10_000 };

const LATE: unique symbol = Symbol('late');

/**
 * Who asks: a server that a pipe has proved, or anybody. For the latter nothing is sent through a pipe: strangers could use up the
 * airtime of a slow link.
 */
export type Asker = 'server' | 'anybody';

/** This server as a notary for others (server-server API, "Querying keys through another server"). */
export class Notary {
  readonly #options: {
    readonly serverName: ServerName;
    readonly signingKey: SigningKey;
    readonly keys: Pick<KeyRing, 'document'>;
    readonly clock: Clock;
  };

  constructor(options: {
    readonly serverName: ServerName;
    readonly signingKey: SigningKey;
    readonly keys: Pick<KeyRing, 'document'>;
    readonly clock: Clock;
  }) {
    this.#options = options;
  }

  /**
   * The key documents of servers with this one's signature beside their own, as far as they are to be had.
   * @param wanted servers, and the Unix time up to which their documents should be valid; undefined: now
   */
  async query(
    wanted: ReadonlyMap<ServerName, Millis | undefined>,
    asker: Asker,
  ): Promise<readonly JsonObject[]> {
    const { serverName, signingKey, keys, clock } = this.#options;
    const now = clock.wall();
    const ended = new AbortController();
    const late = sleep(clock, PATIENCE_MS[asker], ended.signal).then((): typeof LATE => LATE);
    const of = async ([server, until = now]: readonly [ServerName, Millis | undefined]) => {
      const fetched = keys.document(server, until, asker === 'server' ? ['https', 'pipe'] : ['https']);
      const first = await Promise.race([fetched, late]);
      const document = first === LATE ? await keys.document(server, until, []) : first;
      if (document === undefined || server === serverName) return document;
      return signJson(document, serverName, signingKey);
    };
    try {
      const documents = await mapBounded([...wanted], PARALLEL, of);
      return documents.filter((document) => document !== undefined);
    } finally {
      ended.abort();
    }
  }
}
