import type { FastifyInstance } from 'fastify';
import type { Voip } from '../../homeserver/voip.ts';

/** Client-server API, "Voice over IP", and MSC4143 (MatrixRTC transports) by its unstable name. */
export function voipRoutes(app: FastifyInstance, { voip }: { readonly voip: Voip }): void {
  app.get('/_matrix/client/v3/voip/turnServer', { config: { auth: 'device' } }, async ({ requester }) =>
    voip.turnServer(requester.user),
  );

  app.get(
    '/_matrix/client/unstable/org.matrix.msc4143/rtc/transports',
    { config: { auth: 'device' } },
    async () => ({ rtc_transports: voip.rtcTransports() }),
  );
}
