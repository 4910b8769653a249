import type { HistoricPlace } from '../../storage/sync.ts';

/**
 * A point between two events of a room. Pagination orders what was never delivered (backfilled) by depth, before
 * what was delivered, by position; so /sync and /messages together show every event once. A point lies behind the
 * event that it names.
 */
export type Point =
  | { readonly kind: 'delivered'; readonly position: number }
  | ({ readonly kind: 'historic' } & HistoricPlace);

/** Before every event of a room. */
export const BEGINNING: Point = { kind: 'historic', depth: 0, id: 0 };

const TOKEN = /^(?:s1_(\d{1,15})|h1_(\d{1,15})_(\d{1,15})(?:_again)?)$/;

export const delivered = (position: number): Point => ({ kind: 'delivered', position });

/**
 * The text of a point: the version of the format, then the numbers. The sync token `next_batch` is a delivered
 * point; since positions are kept in the database, tokens outlive a restart.
 */
export function formatPoint(point: Point): string {
  return point.kind === 'delivered' ? `s1_${point.position}` : `h1_${point.depth}_${point.id}`;
}

/**
 * Another text for the same point, for a client that is to ask from there once more: one whose token stays the same takes it
 * for the end.
 */
export const sameAgain = (token: string): string =>
  /_again$/.test(token) ? token.slice(0, -'_again'.length) : `${token}_again`;

/** Reads a token, or answers undefined where it is none, or of another version. */
export function parsePoint(text: string): Point | undefined {
  const [, position, depth, id] = TOKEN.exec(text) ?? [];
  if (position !== undefined) return delivered(Number(position));
  if (depth === undefined || id === undefined) return undefined;
  return { kind: 'historic', depth: Number(depth), id: Number(id) };
}

/** The point just before an event (`step` -1) or just behind it (0). */
export function pointAt(
  event: { readonly position: number | null; readonly depth: number; readonly id: number },
  step: -1 | 0,
): Point {
  return event.position === null
    ? { kind: 'historic', depth: event.depth, id: event.id + step }
    : delivered(event.position + step);
}
