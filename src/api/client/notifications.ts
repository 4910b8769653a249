import type { FastifyInstance } from 'fastify';
import type { NotificationList } from '../../homeserver/push/notification_list.ts';
import { natural, type Query, text } from './query.ts';

/** Client-server API, "Listing Notifications". */
export function notificationRoutes(
  app: FastifyInstance,
  { notificationList }: { readonly notificationList: NotificationList },
): void {
  app.get<{ Querystring: Query }>(
    '/_matrix/client/v3/notifications',
    { config: { auth: 'device' } },
    async ({ requester, query }) => {
      const [from, limit, only] = [text(query, 'from'), natural(query, 'limit'), text(query, 'only')];
      return notificationList.page(requester, {
        ...(from !== undefined && { from }),
        ...(limit !== undefined && { limit }),
        ...(only !== undefined && { only }),
      });
    },
  );
}
