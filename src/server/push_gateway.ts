import { type Agent, type Dispatcher, request } from 'undici';
import { fromUtf8 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { Clock, Millis } from '../base/time.ts';
import type { Work } from '../base/work.ts';
import { deadline, INTERNET, type Internet, mayConnect, pool, trusting } from '../federation/internet.ts';
import type { PushGateway } from '../homeserver/push/push_sender.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';

/** Of an answer. */
const MAX_ANSWER_BYTES = 64 * 1024;

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
  readonly #internet: Internet;
  #pools: { readonly outside: Agent; readonly inside: Agent } | undefined;

  /**
   * @param of.inside origins of gateways that may be at any address
   * @param of.internet another one, for tests
   */
  constructor(of: {
    readonly clock: Clock;
    readonly work: Work;
    readonly inside: ReadonlySet<string>;
    readonly internet?: Internet;
  }) {
    this.#clock = of.clock;
    this.#work = of.work;
    this.#inside = of.inside;
    this.#internet = of.internet ?? INTERNET;
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
    if (!isExcepted && (target.protocol !== 'https:' || !mayConnect(target.hostname, this.#internet)))
      return bad('an inside address');
    const { inside, outside } = this.#opened();
    const timeout = deadline(this.#clock, timeoutMs);
    try {
      const answer = await request(target.href, {
        method: 'POST',
        dispatcher: isExcepted ? inside : outside,
        signal: timeout.signal,
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
      timeout.end();
    }
  }

  #opened(): { readonly outside: Agent; readonly inside: Agent } {
    if (this.#pools === undefined) {
      const context = trusting();
      const opened = (isAllowed: (address: string) => boolean): Agent =>
        pool(context, this.#internet, isAllowed);
      this.#pools = {
        outside: opened((address) => this.#internet.isPublicAddress(address)),
        inside: opened(() => true),
      };
    }
    return this.#pools;
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
