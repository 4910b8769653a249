import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { mediaRoutes } from '../api/client/media.ts';
import { mediaUploadRoutes } from '../api/client/media_upload.ts';
import { federationMediaRoutes } from '../api/federation/media.ts';
import { OutsideWeb } from '../federation/outside_web.ts';
import { FederationRemoteMedia } from '../federation/remote_media.ts';
import type { DownloadTransport } from '../federation/transport.ts';
import { MediaKeeper } from '../homeserver/media/keeper.ts';
import { Previews } from '../homeserver/media/previews.ts';
import { RemoteSlots } from '../homeserver/media/remote_slots.ts';
import { MediaRepository } from '../homeserver/media/repository.ts';
import { Thumbnailer } from '../homeserver/media/thumbnailer.ts';
import { Thumbnails } from '../homeserver/media/thumbnails.ts';
import { unlimited, userLimits } from '../homeserver/user_limits.ts';
import type { ServerName } from '../matrix/ids.ts';
import { FileMediaStore } from '../storage/media_files.ts';
import type { HomeserverOptions } from './homeserver.ts';

const HOUR_MS = 60 * 60_000;
const MIB = 1024 * 1024;

export type MediaServices = ReturnType<typeof createMedia>;

/** The folder of a server's files, below its data. */
export const mediaFolder = (data: string): string => join(data, 'media');

/** Everything about files. */
export function createMedia(
  options: HomeserverOptions,
  serverName: ServerName,
  transport: DownloadTransport,
) {
  const { config, clock, random, work, database, log } = options;
  const { thumbnails: bounds, retention, url_previews: pages, ...limits } = config.media;
  const common = { serverName, database, clock, log };
  const limit = config.limits === null ? unlimited : userLimits(clock, config.limits);
  const store = new FileMediaStore({ folder: mediaFolder(config.data), work });
  const outside = options.https
    ? new OutsideWeb({ clock, work, certificateAuthorities: options.certificateAuthorities })
    : undefined;
  const web = options.web ?? outside;
  const remote = new FederationRemoteMedia({ transport, web });
  const slots = new RemoteSlots();
  const repository = new MediaRepository({
    ...{ ...common, store, random, limit, remote, slots },
    limits: {
      maxUploadBytes: limits.max_upload_bytes,
      maxRemoteBytes: limits.max_remote_bytes,
      maxUserBytes: limits.max_user_bytes,
      maxUserFiles: limits.max_user_files,
      maxPending: limits.max_pending,
      unusedLifetimeMs: limits.unused_hours * HOUR_MS,
    },
  });
  const thumbnailer = new Thumbnailer({
    ...{ clock, work, timeoutMs: bounds.timeout_ms, maxPixels: bounds.max_pixels },
    maxMemoryBytes: bounds.max_memory_mib * MIB,
  });
  const thumbnails = new Thumbnails({
    ...{ ...common, store, repository, thumbnailer, remote, slots },
    maxSourceBytes: bounds.max_source_bytes,
  });
  const previews =
    pages.enabled && web !== undefined
      ? new Previews({
          ...{ web, repository, clock, limit },
          limits: {
            blockedHosts: pages.blocked_hosts,
            maxPageBytes: pages.max_page_bytes,
            maxImageBytes: pages.max_image_bytes,
            timeoutMs: pages.timeout_ms,
          },
        })
      : undefined;
  const keeper = new MediaKeeper({
    ...{ ...common, store },
    retention: {
      localDays: retention.local_days,
      remoteDays: retention.remote_days,
      previewDays: retention.preview_days,
      remoteBytes: retention.remote_bytes,
    },
  });
  return {
    keeper,
    addRoutes(app: FastifyInstance): void {
      const services = { serverName, random, thumbnails, previews, media: repository };
      mediaUploadRoutes(app, services);
      mediaRoutes(app, services);
      federationMediaRoutes(app, services);
    },
    start: () => store.start(),
    async stop(): Promise<void> {
      repository.stop();
      thumbnailer.stop();
      await outside?.close();
    },
  };
}
