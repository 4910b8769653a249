import { invalidParam, MatrixError, notFound, unknownError } from '../../matrix/error.ts';
import { parseRoomId, parseUserId, type RoomId, type UserId } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import {
  MASTER_RULE,
  PUSH_RULE_KINDS,
  type PushRule,
  type PushRuleKind,
  type PushRuleset,
  predefinedRules,
} from './predefined_rules.ts';

/** Client-server API, "Historical Actions": stripped wherever they are met. */
const HISTORICAL_ACTIONS: ReadonlySet<JsonValue> = new Set(['dont_notify', 'coalesce']);

// Ours.
/** Of one user. */
const MAX_RULES = 1_000;
/** Of one rule. */
const MAX_CONDITIONS = 64;
const MAX_ACTIONS = 64;
/** Characters of the JSON text of a rule's actions, which is kept with each event that it notifies of. */
const MAX_ACTIONS_LENGTH = 2_048;
/** Characters of a pattern or of a rule's id. */
const MAX_TEXT = 255;
/** Characters of the JSON text of all that a user has changed. */
const MAX_SETTINGS_LENGTH = 256 * 1024;

/** What a user has changed of the push rules; JSON, kept as account data of the type that tells the rules. */
export type RuleSettings = JsonObject & {
  /** The user's own rules of each kind, highest priority first. */
  readonly own: Record<PushRuleKind, PushRule[]>;
  /** By the ids of predefined rules. */
  readonly predefined: Record<string, JsonObject & { enabled?: boolean; actions?: JsonValue[] }>;
};

/** Which rule a request is about. */
export interface RuleName {
  /** As in the path of a request. */
  readonly kind: string;
  readonly id: string;
}

/** Where a rule goes among the user's own. */
export interface RulePlace {
  readonly before?: string | undefined;
  readonly after?: string | undefined;
}

/** @param text as `settingsText` wrote it; undefined: nothing is changed */
export function parseRuleSettings(text: string | undefined): RuleSettings {
  if (text !== undefined) return JSON.parse(text) as RuleSettings;
  return { own: { override: [], content: [], room: [], sender: [], underride: [] }, predefined: {} };
}

/** @throws MatrixError M_TOO_LARGE */
export function settingsText(settings: RuleSettings): string {
  const text = JSON.stringify(settings);
  const count = PUSH_RULE_KINDS.reduce((sum, kind) => sum + settings.own[kind].length, 0);
  if (count > MAX_RULES || text.length > MAX_SETTINGS_LENGTH)
    throw new MatrixError(413, 'M_TOO_LARGE', 'There is no room for more push rules.');
  return text;
}

/** All rules of a user, highest priority first (client-server API, "Predefined Rules": the user's own come first, but for one). */
export function effectiveRules(user: UserId, settings: RuleSettings): PushRuleset {
  const rules = predefinedRules(user);
  for (const kind of PUSH_RULE_KINDS) {
    const predefined = rules[kind].map((rule) => ({ ...rule, ...changeOf(settings, rule.rule_id) }));
    const isMaster = ({ rule_id: id }: PushRule): boolean => id === MASTER_RULE;
    rules[kind] = [
      ...predefined.filter(isMaster),
      ...settings.own[kind],
      ...predefined.filter((rule) => !isMaster(rule)),
    ];
  }
  return rules;
}

/** @throws MatrixError M_NOT_FOUND */
export function findRule(rules: PushRuleset, { kind, id }: RuleName): PushRule {
  const rule = isKind(kind) ? rules[kind].find((each) => each.rule_id === id) : undefined;
  if (rule === undefined) throw notFound('There is no such push rule.');
  return rule;
}

/**
 * The settings with a rule of the user's own, new or changed. One that is there stays enabled or not, and without a place
 * stays where it is.
 * @throws MatrixError M_INVALID_PARAM, M_UNKNOWN 400 where the rule that says the place is not there
 */
export function withRule(
  settings: RuleSettings,
  name: RuleName,
  body: JsonObject,
  place: RulePlace,
): RuleSettings {
  const kind = ownKind(name);
  checkId(kind, name.id);
  const rules = settings.own[kind];
  const known = rules.findIndex(({ rule_id: id }) => id === name.id);
  const rule = {
    ...{ rule_id: name.id, default: false, enabled: rules[known]?.enabled ?? true },
    ...parametersOf(kind, body),
    actions: parseActions(own(body, 'actions') ?? null),
  };
  const others = rules.filter(({ rule_id: id }) => id !== name.id);
  const at = indexAt(others, place) ?? Math.max(0, known);
  return changed(settings, kind, others.toSpliced(at, 0, rule));
}

/** The settings without a rule of the user's own. @throws MatrixError M_NOT_FOUND, M_INVALID_PARAM */
export function withoutRule(settings: RuleSettings, name: RuleName): RuleSettings {
  if (name.id.startsWith('.')) throw invalidParam('Predefined push rules cannot be deleted.');
  const rules = isKind(name.kind) ? settings.own[name.kind] : [];
  const others = rules.filter(({ rule_id: id }) => id !== name.id);
  if (!isKind(name.kind) || others.length === rules.length) throw notFound('There is no such push rule.');
  return changed(settings, name.kind, others);
}

/** The settings with a rule, own or predefined, enabled or not, or with other actions. @throws MatrixError M_NOT_FOUND, M_INVALID_PARAM */
export function withChange(
  settings: RuleSettings,
  name: RuleName,
  change: { readonly enabled: boolean } | { readonly actions: JsonValue },
): RuleSettings {
  const parsed = 'actions' in change ? { actions: parseActions(change.actions) } : change;
  const { kind, id } = name;
  // Whose rules they are does not matter for their names.
  findRule(effectiveRules('' as UserId, settings), name);
  if (id.startsWith('.')) {
    const predefined = { ...settings.predefined, [id]: { ...changeOf(settings, id), ...parsed } };
    return { ...settings, predefined };
  }
  const rules = settings.own[kind as PushRuleKind];
  return changed(
    settings,
    kind as PushRuleKind,
    rules.map((rule) => (rule.rule_id === id ? { ...rule, ...parsed } : rule)),
  );
}

/**
 * The settings with copies for another room of the rules about a room: of the room's own rule, and of those that have it
 * among their conditions. What is there already of those names stays.
 */
export function carriedTo(settings: RuleSettings, from: RoomId, to: RoomId): RuleSettings {
  let carried = settings;
  for (const kind of ['room', 'override', 'underride'] as const) {
    const copies = settings.own[kind].flatMap((rule) => copyFor(kind, rule, from, to));
    const ids = new Set(settings.own[kind].map(({ rule_id: id }) => id));
    const fresh = copies.filter(({ rule_id: id }) => !ids.has(id));
    if (fresh.length > 0) carried = changed(carried, kind, [...fresh, ...settings.own[kind]]);
  }
  return carried;
}

function copyFor(kind: PushRuleKind, rule: PushRule, from: RoomId, to: RoomId): PushRule[] {
  if (kind === 'room') return rule.rule_id === from ? [{ ...rule, rule_id: to }] : [];
  const conditions = own(rule, 'conditions');
  if (!Array.isArray(conditions) || !conditions.some((each) => isRoom(each, from))) return [];
  const moved = conditions.map((each) =>
    isRoom(each, from) ? { ...(each as JsonObject), [placeOfRoom(each)]: to } : each,
  );
  const id = rule.rule_id.includes(from) ? rule.rule_id.replaceAll(from, to) : `${rule.rule_id} ${to}`;
  return id.length > MAX_TEXT ? [] : [{ ...rule, rule_id: id, conditions: moved }];
}

const placeOfRoom = (condition: JsonObject): string =>
  own(condition, 'kind') === 'event_match' ? 'pattern' : 'value';

function isRoom(condition: JsonValue, room: RoomId): condition is JsonObject {
  if (!isJsonObject(condition) || own(condition, 'key') !== 'room_id') return false;
  const kind = own(condition, 'kind');
  return (
    (kind === 'event_match' || kind === 'event_property_is') &&
    own(condition, placeOfRoom(condition)) === room
  );
}

/** What a user has changed of a predefined rule. */
const changeOf = ({ predefined }: RuleSettings, id: string): JsonObject =>
  Object.hasOwn(predefined, id) ? predefined[id]! : {};

const changed = (settings: RuleSettings, kind: PushRuleKind, rules: PushRule[]): RuleSettings => ({
  ...settings,
  own: { ...settings.own, [kind]: rules },
});

const isKind = (kind: string): kind is PushRuleKind => (PUSH_RULE_KINDS as readonly string[]).includes(kind);

function ownKind({ kind }: RuleName): PushRuleKind {
  if (!isKind(kind)) throw invalidParam(`A push rule is one of ${PUSH_RULE_KINDS.join(', ')}.`);
  return kind;
}

/** Client-server API, PUT /pushrules/global/{kind}/{ruleId}. */
function checkId(kind: PushRuleKind, id: string): void {
  if (id === '' || id.length > MAX_TEXT)
    throw invalidParam(`The id of a rule has 1 to ${MAX_TEXT} characters.`);
  if (id.startsWith('.')) throw invalidParam('Ids that begin with a dot are those of predefined rules.');
  if (/[/\\]/.test(id)) throw invalidParam('The id of a rule has no slashes and backslashes.');
  if (kind === 'room' && !parseRoomId(id).ok) throw invalidParam('The id of a room rule is the room.');
  if (kind === 'sender' && !parseUserId(id).ok) throw invalidParam('The id of a sender rule is the user.');
}

function parametersOf(kind: PushRuleKind, body: JsonObject): { pattern?: string; conditions?: JsonValue[] } {
  if (kind === 'room' || kind === 'sender') return {};
  if (kind === 'content') {
    const pattern = own(body, 'pattern');
    if (typeof pattern !== 'string' || pattern === '' || pattern.length > MAX_TEXT)
      throw invalidParam(`A content rule has a pattern of 1 to ${MAX_TEXT} characters.`);
    return { pattern };
  }
  const conditions = own(body, 'conditions') ?? [];
  if (!Array.isArray(conditions) || conditions.length > MAX_CONDITIONS || !conditions.every(isCondition))
    throw invalidParam(`The conditions are a list of ${MAX_CONDITIONS} objects at most, each of a kind.`);
  return { conditions };
}

/** Kinds that are not known are kept: another program of the user may know them. */
function isCondition(condition: JsonValue): boolean {
  if (!isJsonObject(condition) || typeof own(condition, 'kind') !== 'string') return false;
  const pattern = own(condition, 'pattern');
  return typeof pattern !== 'string' || pattern.length <= MAX_TEXT;
}

function parseActions(given: JsonValue): JsonValue[] {
  if (!Array.isArray(given) || given.length > MAX_ACTIONS)
    throw invalidParam(`The actions are a list of ${MAX_ACTIONS} at most.`);
  const actions = given.filter((action) => !HISTORICAL_ACTIONS.has(action));
  const isAction = (action: JsonValue): boolean =>
    action === 'notify' || (isJsonObject(action) && typeof own(action, 'set_tweak') === 'string');
  if (!actions.every(isAction)) throw invalidParam('An action is "notify" or an object with "set_tweak".');
  if (JSON.stringify(actions).length > MAX_ACTIONS_LENGTH) throw invalidParam('The actions are too large.');
  return actions;
}

/** At which index of the others a rule goes; undefined: no place is given. */
function indexAt(rules: readonly PushRule[], { before, after }: RulePlace): number | undefined {
  // Where both are given the one that it comes before counts.
  const named = before ?? after;
  if (named === undefined) return undefined;
  if (named.startsWith('.')) throw invalidParam('A rule cannot be placed beside a predefined one.');
  const at = rules.findIndex(({ rule_id: id }) => id === named);
  if (at < 0) throw unknownError(400, `before/after rule not found: ${named}`);
  return before === undefined ? at + 1 : at;
}
