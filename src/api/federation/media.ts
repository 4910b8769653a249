import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { hex, utf8 } from '../../base/bytes.ts';
import type { Random } from '../../base/random.ts';
import { contentDisposition } from '../../homeserver/media/content_disposition.ts';
import type { MediaRepository } from '../../homeserver/media/repository.ts';
import type { Thumbnails } from '../../homeserver/media/thumbnails.ts';
import type { ServerName } from '../../matrix/ids.ts';
import { checkAnswerSize } from '../answer_limit.ts';
import { natural, type Query } from '../client/query.ts';
import type { AnsweredFile } from '../media_answer.ts';
import { answeredMedia, answeredThumbnail, mediaParameter, thumbnailKeyOf } from '../media_parameters.ts';

interface MediaServices {
  readonly serverName: ServerName;
  readonly media: MediaRepository;
  readonly thumbnails: Thumbnails;
  readonly random: Random;
}

interface Named {
  Params: { mediaId: string };
  Querystring: Query;
}

const BOUNDARY_BYTES = 16;
const BY_SERVER = { config: { auth: 'server' } } as const;

/** Server-server API, "Content Repository": files of this server, for others. */
export function federationMediaRoutes(
  app: FastifyInstance,
  { serverName, media, thumbnails, random }: MediaServices,
): void {
  const lookingOf = (query: Query) => ({ timeoutMs: natural(query, 'timeout_ms'), allowRemote: false });

  app.get<Named>('/_matrix/federation/v1/media/download/:mediaId', BY_SERVER, async (request, reply) => {
    const { params, query } = request;
    const found = await media.find(mediaParameter(serverName, params.mediaId), lookingOf(query));
    return sendParts(request, reply, answeredMedia(media, found), random);
  });
  app.get<Named>('/_matrix/federation/v1/media/thumbnail/:mediaId', BY_SERVER, async (request, reply) => {
    const { params, query } = request;
    const name = mediaParameter(serverName, params.mediaId);
    const found = await thumbnails.find(name, thumbnailKeyOf(query), lookingOf(query));
    return sendParts(request, reply, answeredThumbnail(found), random);
  });
}

/** Two parts: an object that says nothing yet, and the file (RFC 2046, section 5.1.1). */
async function sendParts(
  request: FastifyRequest,
  reply: FastifyReply,
  file: AnsweredFile,
  random: Random,
): Promise<FastifyReply> {
  const boundary = hex(random.bytes(BOUNDARY_BYTES));
  const head = utf8(
    [
      `--${boundary}`,
      'Content-Type: application/json',
      '',
      '{}',
      `--${boundary}`,
      `Content-Type: ${file.contentType}`,
      `Content-Disposition: ${contentDisposition(file.contentType, file.fileName)}`,
      '',
      '',
    ].join('\r\n'),
  );
  const tail = utf8(`\r\n--${boundary}--\r\n`);
  const size = head.length + file.size + tail.length;
  checkAnswerSize(request, size);
  const stream = await file.open();
  return reply
    .headers({ 'content-type': `multipart/mixed; boundary=${boundary}`, 'content-length': size })
    .send(Readable.from(parts(head, stream, tail)));
}

async function* parts(head: Uint8Array, file: Readable, tail: Uint8Array): AsyncIterable<Uint8Array> {
  try {
    yield head;
    yield* file as AsyncIterable<Uint8Array>;
    yield tail;
  } finally {
    file.destroy();
  }
}
