import type { FastifyInstance } from 'fastify';
import type { PushRules } from '../../homeserver/push/push_rules.ts';
import type { JsonObject, JsonValue } from '../../matrix/json.ts';
import { type Query, text } from './query.ts';

interface RulePath {
  readonly kind: string;
  readonly ruleId: string;
}

const READ = { config: { auth: 'device' } } as const;
const CHANGE = { auth: 'device', repeated: 'ledger' } as const;

const RULE_BODY = {
  type: 'object',
  required: ['actions'],
  properties: {
    actions: { type: 'array' },
    conditions: { type: 'array' },
    pattern: { type: 'string' },
  },
} as const;
const ENABLED_BODY = {
  type: 'object',
  required: ['enabled'],
  properties: { enabled: { type: 'boolean' } },
} as const;
const ACTIONS_BODY = {
  type: 'object',
  required: ['actions'],
  properties: { actions: { type: 'array' } },
} as const;

/** Client-server API, "Push Rules: API". */
export function pushRuleRoutes(app: FastifyInstance, { pushRules }: { readonly pushRules: PushRules }): void {
  for (const path of ['/_matrix/client/v3/pushrules', '/_matrix/client/v3/pushrules/'])
    app.get(path, READ, async ({ requester }) => ({ global: await pushRules.all(requester.user) }));
  for (const path of ['/_matrix/client/v3/pushrules/global', '/_matrix/client/v3/pushrules/global/'])
    app.get(path, READ, ({ requester }) => pushRules.all(requester.user));

  const rulePath = '/_matrix/client/v3/pushrules/global/:kind/:ruleId';
  app.get<{ Params: RulePath }>(rulePath, READ, ({ requester, params }) =>
    pushRules.get(requester.user, nameIn(params)),
  );
  app.put<{ Params: RulePath; Querystring: Query; Body: JsonObject }>(
    rulePath,
    { config: CHANGE, schema: { body: RULE_BODY } },
    async ({ requester, params, query, body, once }) => {
      const place = { before: text(query, 'before'), after: text(query, 'after') };
      return once.answer(
        (done) => pushRules.put(requester.user, nameIn(params), { body, place }, done),
        nothing,
      );
    },
  );
  app.delete<{ Params: RulePath }>(rulePath, { config: CHANGE }, async ({ requester, params, once }) =>
    once.answer((done) => pushRules.delete(requester.user, nameIn(params), done), nothing),
  );

  app.get<{ Params: RulePath }>(`${rulePath}/enabled`, READ, async ({ requester, params }) => ({
    enabled: (await pushRules.get(requester.user, nameIn(params))).enabled,
  }));
  app.put<{ Params: RulePath; Body: { enabled: boolean } }>(
    `${rulePath}/enabled`,
    { config: CHANGE, schema: { body: ENABLED_BODY } },
    async ({ requester, params, body: { enabled }, once }) =>
      once.answer((done) => pushRules.set(requester.user, nameIn(params), { enabled }, done), nothing),
  );

  app.get<{ Params: RulePath }>(`${rulePath}/actions`, READ, async ({ requester, params }) => ({
    actions: (await pushRules.get(requester.user, nameIn(params))).actions,
  }));
  app.put<{ Params: RulePath; Body: { actions: JsonValue[] } }>(
    `${rulePath}/actions`,
    { config: CHANGE, schema: { body: ACTIONS_BODY } },
    async ({ requester, params, body: { actions }, once }) =>
      once.answer((done) => pushRules.set(requester.user, nameIn(params), { actions }, done), nothing),
  );
}

const nameIn = ({ kind, ruleId }: RulePath) => ({ kind, id: ruleId });
const nothing = (): JsonObject => ({});
