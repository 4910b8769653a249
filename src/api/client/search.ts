import type { FastifyInstance } from 'fastify';
import { parseRoomEventFilter } from '../../homeserver/filter_events.ts';
import type { GroupKey, Search } from '../../homeserver/search.ts';
import { invalidParam } from '../../matrix/error.ts';
import type { JsonObject } from '../../matrix/json.ts';
import type { SearchKey } from '../../storage/search.ts';
import { type Query, text } from './query.ts';

const CONTEXT_LIMIT = { type: 'integer', minimum: 0 } as const;
const KEYS = { 'content.body': 'body', 'content.name': 'name', 'content.topic': 'topic' } as const;

const BODY = {
  type: 'object',
  required: ['search_categories'],
  properties: {
    search_categories: {
      type: 'object',
      properties: {
        room_events: {
          type: 'object',
          required: ['search_term'],
          properties: {
            search_term: { type: 'string' },
            keys: { type: 'array', maxItems: 3, items: { enum: Object.keys(KEYS) } },
            filter: { type: 'object' },
            order_by: { enum: ['rank', 'recent'] },
            event_context: {
              type: 'object',
              properties: {
                before_limit: CONTEXT_LIMIT,
                after_limit: CONTEXT_LIMIT,
                include_profile: { type: 'boolean' },
              },
            },
            include_state: { type: 'boolean' },
            groupings: {
              type: 'object',
              properties: {
                group_by: {
                  type: 'array',
                  maxItems: 2,
                  items: {
                    type: 'object',
                    required: ['key'],
                    properties: { key: { enum: ['room_id', 'sender'] } },
                  },
                },
              },
            },
          },
        },
      },
    },
  },
} as const;

interface SearchBody {
  readonly search_categories: {
    readonly room_events?: {
      readonly search_term: string;
      readonly keys?: readonly (keyof typeof KEYS)[];
      readonly filter?: JsonObject;
      readonly order_by?: 'rank' | 'recent';
      readonly event_context?: {
        readonly before_limit?: number;
        readonly after_limit?: number;
        readonly include_profile?: boolean;
      };
      readonly include_state?: boolean;
      readonly groupings?: { readonly group_by?: readonly { readonly key: GroupKey }[] };
    };
  };
}

/** Client-server API, "Server Side Search". */
export function searchRoutes(app: FastifyInstance, { search }: { readonly search: Search }): void {
  app.post<{ Body: SearchBody; Querystring: Query }>(
    '/_matrix/client/v3/search',
    { config: { auth: 'device', repeated: { harmless: 'it only reads' } }, schema: { body: BODY } },
    async ({ requester, body, query }) => {
      const asked = body.search_categories.room_events;
      if (asked === undefined) return { search_categories: {} };
      const filter = parseRoomEventFilter(asked.filter);
      if (!filter.ok) throw invalidParam(`The filter cannot be used: ${filter.problem}.`);
      const { event_context: context } = asked;
      const keys: readonly SearchKey[] = (asked.keys ?? (Object.keys(KEYS) as (keyof typeof KEYS)[])).map(
        (key) => KEYS[key],
      );
      const found = await search.search({
        requester,
        term: asked.search_term,
        keys: [...new Set(keys)],
        filter: filter.value,
        by: asked.order_by ?? 'rank',
        context: context && {
          before: context.before_limit,
          after: context.after_limit,
          withProfiles: context.include_profile ?? false,
        },
        withState: asked.include_state ?? false,
        groupBy: [...new Set((asked.groupings?.group_by ?? []).map(({ key }) => key))],
        from: text(query, 'next_batch'),
      });
      return { search_categories: { room_events: found } };
    },
  );
}
