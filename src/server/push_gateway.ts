import { type LookupAddress, promises } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import { Agent, buildConnector, type Dispatcher, request } from 'undici';
import { fromUtf8 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { Clock, Millis } from '../base/time.ts';
import type { Work } from '../base/work.ts';
import { isPublicAddress } from '../federation/addresses.ts';
import type { PushGateway } from '../homeserver/push/push_sender.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';

/** Of an answer. */
const MAX_ANSWER_BYTES = 64 * 1024;
const MAX_ORIGINS = 100;
const CONNECTIONS_PER_ORIGIN = 2;
const KEEP_ALIVE_MS: Millis = 60_000;

/** Where there is no network but links: gateways cannot be reached. */
export const NO_GATEWAY: PushGateway = {
  notify: async () => bad('there is no way to a gateway'),
  close: async () => undefined,
};

/**
 * Push gateways over HTTPS. Whoever has an account names them, so that no connection is made to an inside address: what was
 * looked up is what is connected to, and redirects are not followed. The configuration can except gateways by their origins.
 */
export class HttpPushGateway implements PushGateway {
  readonly #clock: Clock;
  readonly #work: Work;
  readonly #inside: ReadonlySet<string>;
  readonly #lookup: (host: string) => Promise<readonly LookupAddress[]>;
  #pools: { readonly outside: Agent; readonly inside: Agent } | undefined;

  /**
   * @param of.inside origins of gateways that may be at any address
   * @param of.lookup another one than the system's, for tests
   */
  constructor(of: {
    readonly clock: Clock;
    readonly work: Work;
    readonly inside: ReadonlySet<string>;
    readonly lookup?: (host: string) => Promise<readonly LookupAddress[]>;
  }) {
    this.#clock = of.clock;
    this.#work = of.work;
    this.#inside = of.inside;
    this.#lookup = of.lookup ?? ((host) => promises.lookup(host, { all: true }));
  }

  notify(url: string, body: JsonObject, timeoutMs: Millis): Promise<Result<readonly string[]>> {
    return this.#work.run(() => this.#notify(url, body, timeoutMs));
  }

  async close(): Promise<void> {
    await Promise.all([this.#pools?.outside.destroy(), this.#pools?.inside.destroy()]);
  }

  async #notify(url: string, body: JsonObject, timeoutMs: Millis): Promise<Result<readonly string[]>> {
    const target = URL.parse(url);
    if (target === null) return bad('no URL');
    const isExcepted = this.#inside.has(target.origin);
    // A literal address is not looked up.
    const host = target.hostname.replace(/^\[|\]$/g, '');
    if (!isExcepted && (target.protocol !== 'https:' || (isIP(host) !== 0 && !isPublicAddress(host))))
      return bad('an inside address');
    this.#pools ??= { outside: this.#pool(isPublicAddress), inside: this.#pool(() => true) };
    const controller = new AbortController();
    const cancel = this.#clock.after(timeoutMs, () => controller.abort());
    try {
      const answer = await request(target.href, {
        method: 'POST',
        dispatcher: isExcepted ? this.#pools.inside : this.#pools.outside,
        signal: controller.signal,
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      const json = await readJson(answer.body);
      if (answer.statusCode !== 200) return bad(`status ${answer.statusCode}`);
      const rejected = isJsonObject(json) ? own(json, 'rejected') : undefined;
      return ok(Array.isArray(rejected) ? rejected.filter((key) => typeof key === 'string') : []);
    } catch (error) {
      return bad(error instanceof Error && 'code' in error ? String(error.code) : 'no answer');
    } finally {
      cancel();
    }
  }

  #pool(isAllowed: (address: string) => boolean): Agent {
    const lookup: LookupFunction = (host, options, done) => {
      this.#lookup(host).then(
        (addresses) => {
          const usable = addresses.filter(({ address }) => isAllowed(address));
          const [first] = usable;
          if (first === undefined) done(Object.assign(new Error('inside address'), { code: 'EACCES' }), []);
          else if (options.all === true) done(null, usable);
          else done(null, first.address, first.family);
        },
        (error: NodeJS.ErrnoException) => done(error, []),
      );
    };
    return new Agent({
      connections: CONNECTIONS_PER_ORIGIN,
      maxOrigins: MAX_ORIGINS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      // All timeouts are ours, by our clock.
      headersTimeout: 0,
      bodyTimeout: 0,
      allowH2: false,
      connect: buildConnector({ timeout: 0, allowH2: false, lookup }),
    });
  }
}

/** Undefined where it is no JSON, or too much. */
async function readJson(body: Dispatcher.ResponseData['body']): Promise<JsonValue | undefined> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > MAX_ANSWER_BYTES) {
      body.destroy();
      return undefined;
    }
    chunks.push(chunk);
  }
  try {
    return JSON.parse(fromUtf8(Buffer.concat(chunks, length)) ?? '') as JsonValue;
  } catch {
    return undefined;
  }
}
