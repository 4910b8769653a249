import type { UserId } from '../../matrix/ids.ts';
import { isJsonObject, isLooseNumber, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import { FoldedText, Glob, type Steps } from './glob.ts';

/** In rules that are the same for all: in the place of the user whose rules they are. No user id begins so. */
export const ANY_USER = '\u0000' as UserId;

/** The property whose text is searched for words, and which holds what a display name is looked for in. */
const BODY = 'content.body';
/** Client-server API, "Conditions": room_member_count. */
const COUNT = /^(==|<=|>=|<|>)?(\d{1,15})$/;

/** An event as conditions look at it: what several of them ask for is worked out once. */
export class JudgedEvent {
  readonly #event: JsonObject;
  readonly #values = new Map<string, JsonValue | undefined>();
  readonly #texts = new Map<string, FoldedText | undefined>();

  /** @param event as clients get it: client-server API, "Room event format" */
  constructor(event: JsonObject) {
    this.#event = event;
  }

  /** What is at a path (appendices, "Dot-separated property paths"); undefined: nothing. */
  value(path: string): JsonValue | undefined {
    if (!this.#values.has(path)) this.#values.set(path, valueAt(this.#event, path));
    return this.#values.get(path);
  }

  /** The text at a path; undefined: there is none. */
  text(path: string): FoldedText | undefined {
    if (!this.#texts.has(path)) {
      const value = this.value(path);
      this.#texts.set(path, typeof value === 'string' ? new FoldedText(value) : undefined);
    }
    return this.#texts.get(path);
  }
}

/** Whose rules an event is judged by, and what the room says besides the event. */
export interface Circumstances {
  readonly user: UserId;
  /** The user's in the room; undefined: none, or no rule asks for it. */
  readonly displayName: string | undefined;
  /** How many are joined to the room, or as many as `RuleNeeds.memberCount` where they are more. */
  readonly memberCount: number;
  /** Whether the sender's power level suffices for a notification of that name. */
  readonly senderMay: (notification: string) => boolean;
  readonly steps: Steps;
}

/** What a condition, or a set of rules, has to be told of the room. */
export interface RuleNeeds {
  readonly displayName: boolean;
  /** Up to which number members have to be counted; 0: not at all. */
  readonly memberCount: number;
}

export interface Condition extends RuleNeeds {
  readonly holds: (event: JudgedEvent, who: Circumstances) => boolean;
}

const NOTHING: RuleNeeds = { displayName: false, memberCount: 0 };
const NEVER: Condition = { ...NOTHING, holds: () => false };

/** Client-server API, "Conditions". What is not known, or not whole, never holds. */
export function compileCondition(json: JsonValue): Condition {
  if (!isJsonObject(json)) return NEVER;
  switch (own(json, 'kind')) {
    case 'event_match':
      return eventMatch(own(json, 'key'), own(json, 'pattern'));
    case 'event_property_is':
      return eventProperty(own(json, 'key'), own(json, 'value'), (found, value) => found === value);
    case 'event_property_contains':
      return eventProperty(
        own(json, 'key'),
        own(json, 'value'),
        (found, value) => Array.isArray(found) && found.includes(value),
      );
    case 'contains_display_name':
      return { ...NOTHING, displayName: true, holds: containsDisplayName };
    case 'room_member_count':
      return memberCount(own(json, 'is'));
    case 'sender_notification_permission': {
      const key = own(json, 'key');
      if (typeof key !== 'string') return NEVER;
      return { ...NOTHING, holds: (_, { senderMay }) => senderMay(key) };
    }
    default:
      return NEVER;
  }
}

function eventMatch(key: JsonValue | undefined, pattern: JsonValue | undefined): Condition {
  if (typeof key !== 'string' || typeof pattern !== 'string') return NEVER;
  if (pattern === ANY_USER)
    return {
      ...NOTHING,
      holds: (event, { user }) => event.text(key)?.text === new FoldedText(user).text,
    };
  const glob = new Glob(pattern);
  return {
    ...NOTHING,
    holds: (event, { steps }) => {
      const found = event.text(key);
      if (found === undefined) return false;
      return key === BODY ? glob.matchesWords(found, steps) : glob.matchesWhole(found, steps);
    },
  };
}

function eventProperty(
  key: JsonValue | undefined,
  value: JsonValue | undefined,
  holds: (found: JsonValue | undefined, value: JsonValue) => boolean,
): Condition {
  if (typeof key !== 'string' || !isSimple(value)) return NEVER;
  return {
    ...NOTHING,
    holds: (event, { user }) => holds(event.value(key), value === ANY_USER ? user : value),
  };
}

/** Whether a value is one that can be asked for: text, an integer, a boolean or null. */
function isSimple(value: JsonValue | undefined): value is JsonValue {
  if (typeof value === 'number') return Number.isSafeInteger(value);
  return value === null || typeof value === 'string' || typeof value === 'boolean';
}

function containsDisplayName(event: JudgedEvent, { displayName, steps }: Circumstances): boolean {
  const body = event.text(BODY);
  if (body === undefined || displayName === undefined || displayName === '') return false;
  return new Glob(displayName, true).matchesWords(body, steps);
}

function memberCount(is: JsonValue | undefined): Condition {
  const [, sign = '==', digits] = (typeof is === 'string' ? COUNT.exec(is) : null) ?? [];
  if (digits === undefined) return NEVER;
  const number = Number(digits);
  const compare: Readonly<Record<string, (count: number) => boolean>> = {
    '==': (count) => count === number,
    '<': (count) => count < number,
    '>': (count) => count > number,
    '<=': (count) => count <= number,
    '>=': (count) => count >= number,
  };
  const holds = compare[sign]!;
  return { ...NOTHING, memberCount: number + 1, holds: (_, who) => holds(who.memberCount) };
}

function valueAt(event: JsonObject, path: string): JsonValue | undefined {
  let at: JsonValue | undefined = event;
  for (const name of namesIn(path)) {
    if (!isJsonObject(at) || isLooseNumber(at)) return undefined;
    at = own(at, name);
  }
  return at;
}

/** Appendices, "Dot-separated property paths": a backslash before anything but a dot or a backslash stands for itself. */
function namesIn(path: string): string[] {
  const names: string[] = [];
  let name = '';
  for (let at = 0; at < path.length; at++) {
    const character = path[at]!;
    const next = path[at + 1];
    if (character === '.') {
      names.push(name);
      name = '';
    } else if (character === '\\' && (next === '.' || next === '\\')) {
      name += next;
      at++;
    } else name += character;
  }
  return [...names, name];
}
