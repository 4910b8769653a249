import type { SecureContext } from 'node:tls';
import { type Agent, request } from 'undici';
import type { Clock, Millis } from '../base/time.ts';
import type { Work } from '../base/work.ts';
import { type Web, type WebAnswer, WebError } from '../homeserver/media/ports.ts';
import { contentOf, deadline, INTERNET, type Internet, mayConnect, pool, trusting } from './internet.ts';

const MAX_REDIRECTS = 5;
const MAX_URL_LENGTH = 4096;
const AGENT = 'Ravine (a Matrix homeserver)';

export interface OutsideWebOptions {
  readonly clock: Clock;
  readonly work: Work;
  readonly certificateAuthorities?: readonly string[] | undefined;
  /** Another one than the real one, for tests. */
  readonly internet?: Internet | undefined;
}

/**
 * Fetches URLs that strangers name: pages to preview, and where other servers say that a file is. Each address is judged
 * where it is connected to, again at each redirect, whether it stands in the URL or a name leads to it.
 */
export class OutsideWeb implements Web {
  readonly #options: OutsideWebOptions;
  readonly #internet: Internet;
  #pool: Agent | undefined;

  constructor(options: OutsideWebOptions) {
    this.#options = options;
    this.#internet = options.internet ?? INTERNET;
  }

  fetch(url: string, options: Parameters<Web['fetch']>[1]): Promise<WebAnswer> {
    return this.#options.work.run(() => this.#fetch(url, options));
  }

  async close(): Promise<void> {
    await this.#pool?.destroy();
  }

  async #fetch(
    url: string,
    { accept, timeoutMs, language }: { accept: string; timeoutMs: Millis; language?: string | undefined },
  ): Promise<WebAnswer> {
    const timeout = deadline(this.#options.clock, timeoutMs);
    try {
      let at = this.#judged(url);
      for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
        const { statusCode, headers, body } = await request(at, {
          dispatcher: this.#open(),
          signal: timeout.signal,
          // Strangers choose the hosts: their connections are not kept.
          reset: true,
          headers: { accept, 'user-agent': AGENT, ...(language && { 'accept-language': language }) },
        });
        const location = [headers.location].flat()[0];
        if (REDIRECTS.has(statusCode) && location !== undefined) {
          await body.dump({ limit: 0 }).catch(() => undefined);
          at = this.#judged(URL.parse(location, at.href)?.href ?? '', at);
          continue;
        }
        return {
          ...{ status: statusCode, url: at.href },
          contentType: [headers['content-type']].flat()[0] ?? null,
          disposition: [headers['content-disposition']].flat()[0] ?? null,
          content: contentOf(body, this.#options.work, timeout.end, asWebError),
        };
      }
      throw new WebError('it leads from one place to another too often');
    } catch (error) {
      timeout.end();
      throw asWebError(error);
    }
  }

  /** @param from where a redirect comes from: what was encrypted stays so. @throws WebError */
  #judged(url: string, from?: URL): URL {
    const read = url.length > MAX_URL_LENGTH ? null : URL.parse(url);
    const isWeb = read?.protocol === 'https:' || (read?.protocol === 'http:' && from?.protocol !== 'https:');
    if (read === null || !isWeb || read.username !== '' || read.password !== '')
      throw new WebError('it is not at an address that may be fetched');
    if (!mayConnect(read.hostname, this.#internet)) throw new WebError('it is not at a public address');
    read.hash = '';
    return read;
  }

  /** Made on first use. */
  #open(): Agent {
    if (this.#pool !== undefined) return this.#pool;
    const context: SecureContext = trusting(this.#options.certificateAuthorities);
    this.#pool = pool(context, this.#internet, this.#internet.isPublicAddress);
    return this.#pool;
  }
}

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

function asWebError(error: unknown): WebError {
  if (error instanceof WebError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'no answer in time';
  return new WebError(code === 'EACCES' ? 'it is not at a public address' : `it cannot be had: ${code}`);
}
