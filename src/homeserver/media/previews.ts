import { concat } from '../../base/bytes.ts';
import type { Clock, Millis } from '../../base/time.ts';
import { forbidden, invalidParam, limitExceeded, MatrixError, unknownError } from '../../matrix/error.ts';
import type { UserId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import type { UserLimit } from '../user_limits.ts';
import { essence, fileNameIn } from './content_disposition.ts';
import { decodePage, type PageHead, readPageHead } from './html_head.ts';
import { type Web, type WebAnswer, WebError } from './ports.ts';
import { type MediaRepository, mxc } from './repository.ts';

/** How long what a page said counts. */
const LIFETIME_MS: Millis = 60 * 60_000;
const MAX_KEPT = 500;
/** Pages that are looked at at a time. */
const MAX_ASKING = 16;
const RETRY_AFTER_MS: Millis = 5_000;
const MAX_PROPERTIES = 30;
const MAX_VALUE_LENGTH = 1_000;

export interface PreviewLimits {
  readonly blockedHosts: readonly string[];
  readonly maxPageBytes: number;
  readonly maxImageBytes: number;
  /** For a page, and for its image once more. */
  readonly timeoutMs: Millis;
}

interface PreviewsOptions {
  readonly web: Web;
  readonly repository: MediaRepository;
  readonly clock: Clock;
  readonly limit: UserLimit;
  readonly limits: PreviewLimits;
}

/** What is to be told of web pages (client-server API, `GET /_matrix/client/v1/media/preview_url`). */
export class Previews {
  readonly #options: PreviewsOptions;
  readonly #kept = new Map<string, { readonly until: Millis; readonly preview: JsonObject }>();
  /** Who asks for the same meanwhile is told the same. */
  readonly #asking = new Map<string, Promise<JsonObject>>();

  constructor(options: PreviewsOptions) {
    this.#options = options;
  }

  /**
   * The OpenGraph data of a page, its image as an `mxc://` URI; empty where it says nothing of itself.
   * @throws MatrixError M_INVALID_PARAM, M_FORBIDDEN, M_LIMIT_EXCEEDED, M_UNKNOWN where it cannot be had
   */
  preview(user: UserId, given: string): Promise<JsonObject> {
    const url = this.#judged(given);
    this.#options.limit('previews', user);
    const kept = this.#kept.get(url);
    if (kept !== undefined && kept.until > this.#options.clock.monotonic())
      return Promise.resolve(kept.preview);
    const known = this.#asking.get(url);
    if (known !== undefined) return known;
    if (this.#asking.size >= MAX_ASKING)
      throw limitExceeded('Too many pages are being looked at.', RETRY_AFTER_MS);
    const asked = this.#look(url)
      .then((preview) => this.#keep(url, preview))
      .catch((error: unknown): never => {
        throw error instanceof WebError ? unknownError(502, `The page: ${error.message}.`) : error;
      })
      .finally(() => this.#asking.delete(url));
    this.#asking.set(url, asked);
    return asked;
  }

  #judged(given: string): string {
    const url = URL.parse(given);
    if (url?.protocol !== 'https:' && url?.protocol !== 'http:')
      throw invalidParam('url is not one of http or https.');
    if (this.#isBlocked(url)) throw forbidden('Pages of that host are not looked at.');
    url.hash = '';
    return url.href;
  }

  #isBlocked({ hostname }: URL): boolean {
    const host = hostname.toLowerCase().replace(/\.$/, '');
    return this.#options.limits.blockedHosts.some(
      (blocked) => host === blocked.toLowerCase() || host.endsWith(`.${blocked.toLowerCase()}`),
    );
  }

  #keep(url: string, preview: JsonObject): JsonObject {
    this.#kept.delete(url);
    this.#kept.set(url, { until: this.#options.clock.monotonic() + LIFETIME_MS, preview });
    if (this.#kept.size > MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value!);
    return preview;
  }

  async #look(url: string): Promise<JsonObject> {
    const { web, limits } = this.#options;
    const { timeoutMs, maxPageBytes } = limits;
    const page = await web.fetch(url, { accept: 'text/html,application/xhtml+xml,image/*', timeoutMs });
    const contentType = page.contentType ?? '';
    if (page.status !== 200) return giveUp(page, new WebError(`it was answered with ${page.status}`));
    if (essence(contentType).startsWith('image/')) return this.#imageOf(page);
    if (!/^(?:text\/html|application\/xhtml\+xml)$/.test(essence(contentType)))
      return giveUp(page, new WebError('it is neither a page nor an image'));
    const head = readPageHead(decodePage(await beginningOf(page, maxPageBytes), contentType));
    const preview = propertiesOf(head);
    const image = head.meta.get('og:image:secure_url') ?? head.meta.get('og:image');
    if (image === undefined) return preview;
    return { ...preview, ...(await this.#pageImage(image, page.url, head)) };
  }

  /** What is to be said of a page's image; nothing where it cannot be had. */
  async #pageImage(image: string, base: string, { meta }: PageHead): Promise<JsonObject> {
    const { web, limits } = this.#options;
    const url = URL.parse(image, base);
    if (url === null || this.#isBlocked(url)) return {};
    try {
      const answer = await web.fetch(url.href, { accept: 'image/*', timeoutMs: limits.timeoutMs });
      if (answer.status !== 200 || !essence(answer.contentType ?? '').startsWith('image/'))
        return await giveUp(answer, new WebError('no image'));
      const told: JsonObject = await this.#imageOf(answer);
      for (const name of ['og:image:width', 'og:image:height']) {
        const value = meta.get(name) ?? '';
        if (/^[1-9]\d{0,5}$/.test(value)) told[name] = Number(value);
      }
      return told;
    } catch (error) {
      if (error instanceof WebError || error instanceof MatrixError) return {};
      throw error;
    }
  }

  async #imageOf({ contentType, disposition, content }: WebAnswer): Promise<JsonObject> {
    const { repository, limits } = this.#options;
    const file = { contentType, fileName: fileNameIn(disposition), content };
    const media = await repository.keepPreviewImage(file, limits.maxImageBytes);
    return {
      'og:image': mxc(media.name),
      'og:image:type': essence(contentType ?? ''),
      'matrix:image:size': media.content.size,
    };
  }
}

/** Everything of OpenGraph that is text and leads nowhere. */
function propertiesOf({ title, meta }: PageHead): JsonObject {
  const preview: JsonObject = {};
  for (const [name, value] of meta) {
    if (Object.keys(preview).length >= MAX_PROPERTIES) break;
    if (/^og:(?!image|video|audio)[a-z_:]{1,40}$/.test(name))
      preview[name] = value.slice(0, MAX_VALUE_LENGTH);
  }
  if (title !== undefined) preview['og:title'] ??= title;
  const description = meta.get('description');
  if (description !== undefined) preview['og:description'] ??= description.slice(0, MAX_VALUE_LENGTH);
  return preview;
}

/** What a page says of itself stands at its beginning: the rest of a long one is not fetched. */
async function beginningOf({ content }: WebAnswer, maxBytes: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of content) {
    parts.push(part);
    length += part.length;
    if (length >= maxBytes) break;
  }
  return concat(...parts).subarray(0, maxBytes);
}

async function giveUp({ content }: WebAnswer, error: WebError): Promise<never> {
  for await (const _ of content) break;
  throw error;
}
