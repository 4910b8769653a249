import { invalidParam, missingParam } from '../../matrix/error.ts';
import type { JsonValue } from '../../matrix/json.ts';

/** The query of a request as Fastify parses it: a key that comes twice has a list. */
export type Query = Readonly<Record<string, string | readonly string[] | undefined>>;

/** A parameter of the query, or undefined. @throws MatrixError M_INVALID_PARAM where it is there twice */
export function text(query: Query, name: string): string | undefined {
  const value = Object.hasOwn(query, name) ? query[name] : undefined;
  if (value === undefined || typeof value === 'string') return value;
  throw invalidParam(`${name} is there more than once.`);
}

/** A whole number from 0 up. */
export function natural(query: Query, name: string): number | undefined {
  const value = text(query, name);
  if (value === undefined) return undefined;
  if (!/^\d{1,15}$/.test(value)) throw invalidParam(`${name} is not a whole number.`);
  return Number(value);
}

export function boolean(query: Query, name: string): boolean | undefined {
  const value = text(query, name);
  if (value === undefined) return undefined;
  if (value !== 'true' && value !== 'false') throw invalidParam(`${name} is neither true nor false.`);
  return value === 'true';
}

export function oneOf<Choice extends string>(query: Query, name: string, choices: readonly Choice[]): Choice {
  const value = text(query, name);
  if (value === undefined) throw missingParam(`${name} is missing.`);
  const choice = choices.find((each) => each === value);
  if (choice === undefined) throw invalidParam(`${name} is none of ${choices.join(', ')}.`);
  return choice;
}

/** A parameter that holds JSON. */
export function json(query: Query, name: string): JsonValue | undefined {
  const value = text(query, name);
  if (value === undefined) return undefined;
  try {
    return JSON.parse(value) as JsonValue;
  } catch {
    throw invalidParam(`${name} is not JSON.`);
  }
}
