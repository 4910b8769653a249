import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import {
  type Circumstances,
  type Condition,
  compileCondition,
  type JudgedEvent,
  type RuleNeeds,
} from './conditions.ts';
import { PUSH_RULE_KINDS, type PushRule, type PushRuleKind, type PushRuleset } from './predefined_rules.ts';

/** What is to be done about an event that notifies somebody. */
export interface Ruling {
  /** `notify`, and the tweaks (client-server API, "Actions"). */
  readonly actions: readonly JsonValue[];
  readonly isHighlight: boolean;
}

interface CompiledRule {
  readonly conditions: readonly Condition[];
  /** Undefined: the event notifies nobody. */
  readonly ruling: Ruling | undefined;
}

/** A user's rules, made ready to judge events by. */
export class CompiledRules {
  readonly needs: RuleNeeds;
  readonly #rules: readonly CompiledRule[];

  constructor(rules: PushRuleset) {
    this.#rules = PUSH_RULE_KINDS.flatMap((kind) =>
      rules[kind].filter(({ enabled }) => enabled).map((rule) => compileRule(kind, rule)),
    );
    const conditions = this.#rules.flatMap((rule) => rule.conditions);
    this.needs = {
      displayName: conditions.some(({ displayName }) => displayName),
      memberCount: Math.max(0, ...conditions.map((condition) => condition.memberCount)),
    };
  }

  /** What the first rule that holds says; undefined: the event does not notify the user. */
  judge(event: JudgedEvent, who: Circumstances): Ruling | undefined {
    return this.#rules.find(({ conditions }) => conditions.every(({ holds }) => holds(event, who)))?.ruling;
  }
}

function compileRule(kind: PushRuleKind, rule: PushRule): CompiledRule {
  return { conditions: conditionsOf(kind, rule).map(compileCondition), ruling: rulingOf(rule.actions) };
}

/** Client-server API, "Push Rules": what the kinds that have no conditions of their own stand for. */
function conditionsOf(kind: PushRuleKind, rule: PushRule): JsonValue[] {
  switch (kind) {
    case 'content':
      return [{ kind: 'event_match', key: 'content.body', pattern: own(rule, 'pattern') ?? null }];
    case 'room':
      return [{ kind: 'event_property_is', key: 'room_id', value: rule.rule_id }];
    case 'sender':
      return [{ kind: 'event_property_is', key: 'sender', value: rule.rule_id }];
    default: {
      const conditions = own(rule, 'conditions');
      return Array.isArray(conditions) ? conditions : [];
    }
  }
}

/** What is neither `notify` nor a tweak is no action ("Historical Actions"). */
function rulingOf(actions: readonly JsonValue[]): Ruling | undefined {
  if (!actions.includes('notify')) return undefined;
  const tweaks = actions.filter(isTweak);
  const highlights = tweaks.filter((tweak) => own(tweak, 'set_tweak') === 'highlight');
  const value = highlights.length === 0 ? false : (own(highlights.at(-1)!, 'value') ?? true);
  return { actions: ['notify', ...tweaks], isHighlight: value !== false };
}

const isTweak = (action: JsonValue): action is JsonObject =>
  isJsonObject(action) && typeof own(action, 'set_tweak') === 'string';

/** The tweaks that a push gateway is told of (client-server API, "Actions"). */
export function tweaksOf(actions: readonly JsonValue[]): Record<string, JsonValue> {
  return Object.fromEntries(
    actions.flatMap((action) => {
      if (!isTweak(action)) return [];
      const name = own(action, 'set_tweak') as string;
      return [[name, own(action, 'value') ?? (name === 'highlight' ? true : null)]];
    }),
  );
}
