import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Previews } from '../../homeserver/media/previews.ts';
import { type MediaRepository, unknownMedia } from '../../homeserver/media/repository.ts';
import type { Thumbnails } from '../../homeserver/media/thumbnails.ts';
import { missingParam } from '../../matrix/error.ts';
import { unrecognized } from '../errors.ts';
import { sendFile } from '../media_answer.ts';
import {
  answeredMedia,
  answeredThumbnail,
  lookingOf,
  mediaParameter,
  thumbnailKeyOf,
} from '../media_parameters.ts';
import { type Query, text } from './query.ts';

interface MediaServices {
  readonly media: MediaRepository;
  readonly thumbnails: Thumbnails;
  /** Left out: pages are not previewed. */
  readonly previews: Previews | undefined;
}

interface Named {
  Params: { serverName: string; mediaId: string; fileName?: string };
  Querystring: Query;
}

const AUTHENTICATED = { config: { auth: 'device' } } as const;
const OLD = { config: { auth: 'none' } } as const;

/** Client-server API, "Content repository": what is read of it. */
export function mediaRoutes(app: FastifyInstance, { media, thumbnails, previews }: MediaServices): void {
  const download = async (request: FastifyRequest<Named>, reply: FastifyReply): Promise<FastifyReply> => {
    const { serverName, mediaId, fileName } = request.params;
    const found = await media.find(mediaParameter(serverName, mediaId), lookingOf(request.query));
    return sendFile(request, reply, answeredMedia(media, found, fileName));
  };
  const thumbnail = async (request: FastifyRequest<Named>, reply: FastifyReply): Promise<FastifyReply> => {
    const { params, query } = request;
    const name = mediaParameter(params.serverName, params.mediaId);
    const found = await thumbnails.find(name, thumbnailKeyOf(query), lookingOf(query));
    return sendFile(request, reply, answeredThumbnail(found));
  };
  const preview = async ({ requester, query }: FastifyRequest<Named>) => {
    if (previews === undefined) throw unrecognized(404);
    const url = text(query, 'url');
    if (url === undefined) throw missingParam('url is missing.');
    return previews.preview(requester.user, url);
  };
  const config = async () => ({ 'm.upload.size': media.limits.maxUploadBytes });

  const current = '/_matrix/client/v1/media';
  app.get<Named>(`${current}/download/:serverName/:mediaId`, AUTHENTICATED, download);
  app.get<Named>(`${current}/download/:serverName/:mediaId/:fileName`, AUTHENTICATED, download);
  app.get<Named>(`${current}/thumbnail/:serverName/:mediaId`, AUTHENTICATED, thumbnail);
  app.get<Named>(`${current}/preview_url`, AUTHENTICATED, preview);
  app.get(`${current}/config`, AUTHENTICATED, config);

  // Without a token only what was there before is given (client-server API, "freeze"): that is nothing here.
  const frozen = async (): Promise<never> => {
    throw unknownMedia();
  };
  const old = '/_matrix/media/v3';
  app.get(`${old}/download/:serverName/:mediaId`, OLD, frozen);
  app.get(`${old}/download/:serverName/:mediaId/:fileName`, OLD, frozen);
  app.get(`${old}/thumbnail/:serverName/:mediaId`, OLD, frozen);
  app.get<Named>(`${old}/preview_url`, AUTHENTICATED, preview);
  app.get(`${old}/config`, AUTHENTICATED, config);
}
