import type { FastifyInstance } from 'fastify';
import { defaultPushRules, findPushRule, type PushRule } from '../../homeserver/push_rules.ts';
import { notFound } from '../../matrix/error.ts';
import type { UserId } from '../../matrix/ids.ts';

interface RulePath {
  readonly kind: string;
  readonly ruleId: string;
}

/** Client-server API, "Push Notifications", reading only: the rules that clients judge events by; nothing is pushed. */
export function pushRuleRoutes(app: FastifyInstance): void {
  const device = { config: { auth: 'device' } } as const;
  app.get('/_matrix/client/v3/pushers', device, async () => ({ pushers: [] }));

  const rulePath = '/_matrix/client/v3/pushrules/global/:kind/:ruleId';

  for (const path of ['/_matrix/client/v3/pushrules', '/_matrix/client/v3/pushrules/']) {
    app.get(path, device, async ({ requester }) => ({ global: defaultPushRules(requester.user) }));
  }
  for (const path of ['/_matrix/client/v3/pushrules/global', '/_matrix/client/v3/pushrules/global/']) {
    app.get(path, device, async ({ requester }) => defaultPushRules(requester.user));
  }
  app.get<{ Params: RulePath }>(rulePath, device, async ({ requester, params }) =>
    ruleOf(requester.user, params),
  );
  app.get<{ Params: RulePath }>(`${rulePath}/enabled`, device, async ({ requester, params }) => ({
    enabled: ruleOf(requester.user, params).enabled,
  }));
  app.get<{ Params: RulePath }>(`${rulePath}/actions`, device, async ({ requester, params }) => ({
    actions: ruleOf(requester.user, params).actions,
  }));
}

function ruleOf(user: UserId, { kind, ruleId }: RulePath): PushRule {
  const rule = findPushRule(defaultPushRules(user), kind, ruleId);
  if (rule === undefined) throw notFound('There is no such push rule.');
  return rule;
}
