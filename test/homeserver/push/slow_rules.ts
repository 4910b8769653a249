import type { JsonObject, JsonValue } from '../../../src/matrix/json.ts';

/*
 * The rules of the specification as literally as they can be written, without regard to how long they take: what the
 * tests hold the real ones against.
 */

export interface SlowCircumstances {
  readonly displayName: string | undefined;
  readonly memberCount: number;
  readonly senderLevel: number;
  readonly levels: Readonly<Record<string, number>>;
}

/** Whether a pattern matches all of a text; both are lists of characters. */
function matchesAll(pattern: readonly string[], text: readonly string[]): boolean {
  const [first, ...rest] = pattern;
  if (first === undefined) return text.length === 0;
  if (first === '*') {
    for (let taken = 0; taken <= text.length; taken++) if (matchesAll(rest, text.slice(taken))) return true;
    return false;
  }
  const [character, ...others] = text;
  return character !== undefined && (first === '?' || first === character) && matchesAll(rest, others);
}

const folded = (text: string): string[] => [...text].flatMap((each) => [...each.toUpperCase().toLowerCase()]);

export const slowGlob = (pattern: string, text: string): boolean => matchesAll(folded(pattern), folded(text));

const isWordCharacter = (character: string): boolean => /^[A-Za-z0-9_]$/.test(character);

/** Whether a pattern matches some part of a text that starts and ends at a word boundary. */
export function slowWords(pattern: string, text: string): boolean {
  const characters = folded(text);
  const isBoundary = (at: number): boolean =>
    at === 0 ||
    at === characters.length ||
    !isWordCharacter(characters[at - 1]!) ||
    !isWordCharacter(characters[at]!);
  for (let start = 0; start <= characters.length; start++)
    for (let end = start; end <= characters.length; end++)
      if (isBoundary(start) && isBoundary(end) && matchesAll(folded(pattern), characters.slice(start, end)))
        return true;
  return false;
}

export function slowValue(event: JsonValue | undefined, path: string): JsonValue | undefined {
  const names = path
    .replaceAll('\\\\', '\u0001')
    .replaceAll('\\.', '\u0002')
    .split('.')
    .map((name) => name.replaceAll('\u0002', '.').replaceAll('\u0001', '\\'));
  let at = event;
  for (const name of names) {
    if (typeof at !== 'object' || at === null || Array.isArray(at) || !Object.hasOwn(at, name))
      return undefined;
    at = at[name];
  }
  return at;
}

function slowCondition(condition: JsonObject, event: JsonObject, who: SlowCircumstances): boolean {
  const { kind, key, pattern, value, is } = condition;
  const found = typeof key === 'string' ? slowValue(event, key) : undefined;
  if (kind === 'event_match') {
    if (typeof found !== 'string' || typeof pattern !== 'string') return false;
    return key === 'content.body' ? slowWords(pattern, found) : slowGlob(pattern, found);
  }
  if (value === undefined && String(kind).startsWith('event_property')) return false;
  if (kind === 'event_property_is')
    return typeof value !== 'object' || value === null ? found === value : false;
  if (kind === 'event_property_contains')
    return Array.isArray(found) && (typeof value !== 'object' || value === null) && found.includes(value!);
  if (kind === 'contains_display_name') {
    const body = slowValue(event, 'content.body');
    if (typeof body !== 'string' || who.displayName === undefined || who.displayName === '') return false;
    const escaped = who.displayName;
    for (let start = 0; start <= body.length; start++)
      for (let end = start; end <= body.length; end++)
        if (
          folded(body.slice(start, end)).join('') === folded(escaped).join('') &&
          [start, end].every(
            (at) => !(isWordCharacter(body[at - 1] ?? ' ') && isWordCharacter(body[at] ?? ' ')),
          )
        )
          return true;
    return false;
  }
  if (kind === 'room_member_count') {
    const [, sign, digits] = /^(==|<|>|>=|<=)?([0-9]+)$/.exec(String(is)) ?? [];
    if (digits === undefined) return false;
    const number = Number(digits);
    if (sign === '<') return who.memberCount < number;
    if (sign === '>') return who.memberCount > number;
    if (sign === '>=') return who.memberCount >= number;
    if (sign === '<=') return who.memberCount <= number;
    return who.memberCount === number;
  }
  if (kind === 'sender_notification_permission')
    return typeof key === 'string' && who.senderLevel >= (who.levels[key] ?? 50);
  return false;
}

/** The actions of the first rule that holds, of rules as GET /pushrules/ tells them; undefined: none does, or it does not notify. */
export function slowRuling(
  rules: Readonly<Record<string, readonly JsonObject[]>>,
  event: JsonObject,
  who: SlowCircumstances,
): JsonValue[] | undefined {
  for (const kind of ['override', 'content', 'room', 'sender', 'underride']) {
    for (const rule of rules[kind]!) {
      if (rule.enabled !== true) continue;
      const holds =
        kind === 'content'
          ? slowCondition({ kind: 'event_match', key: 'content.body', pattern: rule.pattern! }, event, who)
          : kind === 'room'
            ? event.room_id === rule.rule_id
            : kind === 'sender'
              ? event.sender === rule.rule_id
              : (rule.conditions as JsonObject[]).every((condition) => slowCondition(condition, event, who));
      if (!holds) continue;
      const actions = (rule.actions as JsonValue[]).filter(
        (action) => action !== 'dont_notify' && action !== 'coalesce',
      );
      return actions.includes('notify') ? actions : undefined;
    }
  }
  return undefined;
}
