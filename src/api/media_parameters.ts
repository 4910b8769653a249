import type { FoundMedia, Looking, MediaRepository } from '../homeserver/media/repository.ts';
import { unknownMedia } from '../homeserver/media/repository.ts';
import type { FoundThumbnail } from '../homeserver/media/thumbnails.ts';
import { MatrixError, missingParam } from '../matrix/error.ts';
import { parseServerName } from '../matrix/ids.ts';
import type { MediaName, ThumbnailKey } from '../storage/media.ts';
import { boolean, natural, type Query, text } from './client/query.ts';
import type { AnsweredFile } from './media_answer.ts';

/** Longer than any that a server makes. */
const MAX_ID_LENGTH = 255;

/**
 * The two halves of an `mxc://` URI (client-server API, "Security considerations": nothing else is let in).
 * @throws MatrixError M_NOT_FOUND, since there can be no such file
 */
export function mediaParameter(server: string, mediaId: string): MediaName {
  const name = parseServerName(server);
  if (!name.ok || mediaId.length > MAX_ID_LENGTH || !/^[A-Za-z0-9_-]+$/.test(mediaId)) throw unknownMedia();
  return { server: name.value, mediaId };
}

/** @throws MatrixError M_INVALID_PARAM */
export const lookingOf = (query: Query): Looking => ({
  timeoutMs: natural(query, 'timeout_ms'),
  allowRemote: boolean(query, 'allow_remote') ?? true,
});

/** @throws MatrixError M_MISSING_PARAM, M_UNKNOWN where it makes no sense, M_INVALID_PARAM */
export function thumbnailKeyOf(query: Query): ThumbnailKey {
  const method = text(query, 'method') ?? 'scale';
  if (method !== 'crop' && method !== 'scale') throw senseless('method is neither crop nor scale.');
  return {
    ...{ width: side(query, 'width'), height: side(query, 'height'), method },
    animated: boolean(query, 'animated') ?? false,
  };
}

function side(query: Query, name: 'width' | 'height'): number {
  const value = text(query, name);
  if (value === undefined) throw missingParam(`${name} is missing.`);
  if (!/^\d{1,6}$/.test(value)) throw senseless(`${name} is not a number of pixels.`);
  return Number(value);
}

const senseless = (message: string): MatrixError => new MatrixError(400, 'M_UNKNOWN', message);

/** @param fileName in the place of the file's own */
export function answeredMedia(
  repository: MediaRepository,
  media: FoundMedia,
  fileName: string | null = media.content.fileName,
): AnsweredFile {
  const { sha256, size, contentType } = media.content;
  return {
    ...{ sha256, size, fileName },
    contentType: contentType ?? 'application/octet-stream',
    open: (range) => repository.open(media, range),
  };
}

/** Named after its type, since what it is of may be called anything. */
export const answeredThumbnail = ({ sha256, size, contentType, open }: FoundThumbnail): AnsweredFile => ({
  ...{ sha256, size, contentType, open },
  fileName: `thumbnail.${contentType.slice('image/'.length)}`,
});
