import type { Millis } from '../base/time.ts';
import { fileNameIn } from '../homeserver/media/content_disposition.ts';
import {
  type IncomingFile,
  type RemoteMedia,
  type RemoteMediaOptions,
  type Web,
  WebError,
} from '../homeserver/media/ports.ts';
import { MatrixError, notFound, unknownError } from '../matrix/error.ts';
import type { MediaName, ThumbnailKey } from '../storage/media.ts';
import { readMediaPart } from './multipart.ts';
import { type DownloadTransport, FederationError, path } from './transport.ts';

/** For a whole file over HTTPS; a slow link gets more. */
const TIMEOUT_MS: Millis = 10 * 60_000;

/** Fetches other servers' media (server-server API, "Content Repository"). */
export class FederationRemoteMedia implements RemoteMedia {
  readonly #transport: DownloadTransport;
  readonly #web: Web | undefined;

  /** @param web where files are that other servers keep elsewhere; left out: those cannot be had */
  constructor({
    transport,
    web,
  }: {
    readonly transport: DownloadTransport;
    readonly web?: Web | undefined;
  }) {
    this.#transport = transport;
    this.#web = web;
  }

  download(name: MediaName, { uploadTimeoutMs }: RemoteMediaOptions): Promise<IncomingFile> {
    const query = `timeout_ms=${uploadTimeoutMs}`;
    return this.#fetch(name, path`/_matrix/federation/v1/media/download/${name.mediaId}`, query);
  }

  thumbnail(
    name: MediaName,
    { width, height, method, animated }: ThumbnailKey,
    { uploadTimeoutMs }: RemoteMediaOptions,
  ): Promise<IncomingFile> {
    const query = `width=${width}&height=${height}&method=${method}&animated=${animated}&timeout_ms=${uploadTimeoutMs}`;
    return this.#fetch(name, path`/_matrix/federation/v1/media/thumbnail/${name.mediaId}`, query);
  }

  async #fetch({ server }: MediaName, at: string, query: string): Promise<IncomingFile> {
    try {
      const { contentType, content } = await this.#transport.download(server, {
        ...{ method: 'GET', path: at, query },
        ...{ timeoutMs: TIMEOUT_MS, priority: 5 },
      });
      const part = await readMediaPart(contentType, content);
      const location = part.headers.get('location');
      if (location !== undefined) return await this.#elsewhere(location, part.content);
      return {
        contentType: part.headers.get('content-type') ?? null,
        fileName: fileNameIn(part.headers.get('content-disposition') ?? null),
        content: translated(part.content),
      };
    } catch (error) {
      throw asMatrixError(error);
    }
  }

  /** The file is where that server says; what it says is not kept, since it may hold for a while only. */
  async #elsewhere(location: string, rest: AsyncIterable<Uint8Array>): Promise<IncomingFile> {
    for await (const _ of rest) break;
    if (this.#web === undefined || URL.parse(location)?.protocol !== 'https:')
      throw new FederationError('bad_answer', 'the file is not where it can be had');
    const { status, contentType, disposition, content } = await this.#web.fetch(location, {
      ...{ accept: '*/*', timeoutMs: TIMEOUT_MS },
    });
    if (status === 200)
      return { contentType, fileName: fileNameIn(disposition), content: translated(content) };
    for await (const _ of content) break;
    throw new FederationError('bad_answer', 'the file is not where it should be');
  }
}

async function* translated(content: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  try {
    yield* content;
  } catch (error) {
    throw asMatrixError(error);
  }
}

/** What a client is told. */
function asMatrixError(error: unknown): unknown {
  if (error instanceof FederationError)
    return unknownError(error.problem === 'timeout' ? 504 : 502, error.message);
  if (error instanceof WebError) return unknownError(502, `The file ${error.message}`);
  if (!(error instanceof MatrixError)) return error;
  const { status, errcode, message } = error;
  if (errcode === 'M_UNRECOGNIZED') return new MatrixError(404, errcode, message);
  if (errcode === 'M_TOO_LARGE') return new MatrixError(502, errcode, message);
  if (errcode === 'M_NOT_YET_UPLOADED') return new MatrixError(504, errcode, message);
  if (status === 404) return notFound('The other server has no such file.');
  return status === 400 ? unknownError(400, message) : unknownError(502, message);
}
