import type { Millis } from '../../base/time.ts';
import type { MediaName, ThumbnailKey } from '../../storage/media.ts';

/** A file as it comes from somewhere else: nothing of it is to be trusted. */
export interface IncomingFile {
  /** As the other side says; null where it does not. */
  readonly contentType: string | null;
  readonly fileName: string | null;
  /**
   * Read to its end, or until it throws MatrixError, as a client is to be told.
   */
  readonly content: AsyncIterable<Uint8Array>;
}

/** How other servers' media are fetched (server-server API, "Content Repository"). */
export interface RemoteMedia {
  /** @throws MatrixError as a client is to be told */
  download(name: MediaName, options: RemoteMediaOptions): Promise<IncomingFile>;
  /** @throws MatrixError as a client is to be told; M_UNRECOGNIZED where that server makes no thumbnails */
  thumbnail(name: MediaName, size: ThumbnailKey, options: RemoteMediaOptions): Promise<IncomingFile>;
}

export interface RemoteMediaOptions {
  /** How long the other server may wait for what has not been uploaded yet. */
  readonly uploadTimeoutMs: Millis;
}

/** A page or an image of the web, as somebody's server answered. */
export interface WebAnswer {
  readonly status: number;
  /** Where it was in the end, behind redirects. */
  readonly url: string;
  readonly contentType: string | null;
  /** The header Content-Disposition. */
  readonly disposition: string | null;
  readonly content: AsyncIterable<Uint8Array>;
}

/** Fetches what a stranger names. Never connects to an address that is not public, whatever leads there. */
export interface Web {
  /**
   * GET of an http or https URL, redirects followed.
   * @param timeoutMs for all of it, the content included
   * @throws WebError
   */
  fetch(
    url: string,
    options: { readonly accept: string; readonly timeoutMs: Millis; readonly language?: string | undefined },
  ): Promise<WebAnswer>;
}

/** Something of the web could not be had; the message says what of it, and nothing of our network. */
export class WebError extends Error {
  override name = 'WebError';
}
