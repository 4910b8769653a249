import type { JsonValue } from '../../src/matrix/json.ts';

/** A value in words: what JSON's text would hide (negative zero, order of keys, own `__proto__`) is there. */
export function told(value: JsonValue): string {
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value);
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(told).join()}]`;
  return `{${Object.entries(value)
    .map(([key, inner]) => `${JSON.stringify(key)}:${told(inner)}`)
    .join()}}`;
}
