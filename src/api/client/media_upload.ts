import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { IncomingFile } from '../../homeserver/media/ports.ts';
import type { MediaRepository } from '../../homeserver/media/repository.ts';
import { MatrixError } from '../../matrix/error.ts';
import { mediaParameter } from '../media_parameters.ts';
import { type Query, text } from './query.ts';

const UPLOAD = { config: { auth: 'device', repeated: 'ledger' } } as const;

interface Uploaded {
  Querystring: Query;
  Body: Readable | undefined;
}

/** Client-server API, "Content repository": how files come in. */
export function mediaUploadRoutes(
  app: FastifyInstance,
  { media }: { readonly media: MediaRepository },
): void {
  app.post('/_matrix/media/v1/create', UPLOAD, async ({ requester, once }) =>
    once.answer<Awaited<ReturnType<MediaRepository['create']>>>(
      (done) => media.create(requester.user, done),
      ({ uri, expires }) => ({ content_uri: uri, unused_expires_at: expires }),
    ),
  );

  // In a scope of their own: here a body is no JSON, and is not read before somebody takes it.
  app.register((scope, _options, ready) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', (_request, payload, taken) => taken(null, payload));
    // What is still being sent then is not listened to.
    scope.addHook('onError', async (request, reply) => {
      if (!request.raw.complete) reply.header('connection', 'close');
    });

    scope.post<Uploaded>('/_matrix/media/v3/upload', UPLOAD, async (request) => {
      const file = fileIn(request, media.limits.maxUploadBytes);
      const { requester, once } = request;
      return once.answer<string>(
        (done) => media.upload(requester.user, file, done),
        (uri) => ({ content_uri: uri }),
      );
    });

    scope.put<Uploaded & { Params: { serverName: string; mediaId: string } }>(
      '/_matrix/media/v3/upload/:serverName/:mediaId',
      UPLOAD,
      async (request) => {
        const name = mediaParameter(request.params.serverName, request.params.mediaId);
        const file = fileIn(request, media.limits.maxUploadBytes);
        const { requester, once } = request;
        return once.answer<null>(
          (done) => media.bring(requester.user, name, file, done),
          () => ({}),
        );
      },
    );
    ready();
  });
}

/** @throws MatrixError M_TOO_LARGE where it says so itself */
function fileIn({ headers, query, body }: FastifyRequest<Uploaded>, maxBytes: number): IncomingFile {
  const length = Number(headers['content-length'] ?? 0);
  if (length > maxBytes) throw new MatrixError(413, 'M_TOO_LARGE', `A file has at most ${maxBytes} bytes.`);
  return {
    contentType: headers['content-type'] ?? null,
    fileName: text(query, 'filename') ?? null,
    // Whoever is refused in the middle is told so: his connection is not just cut.
    content: body?.iterator({ destroyOnReturn: false }) ?? nothing(),
  };
}

async function* nothing(): AsyncIterable<Uint8Array> {
  // An empty file.
}
