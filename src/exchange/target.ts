/** The longest path and query together, in characters. */
export const MAX_TARGET_LENGTH = 8 * 1024;

/** A path and query of visible ASCII, as HTTP's request line has them. */
export const isTarget = (target: string): boolean =>
  target.length <= MAX_TARGET_LENGTH && /^\/[\x21\x22\x24-\x7e]*$/.test(target);

export const joinTarget = (path: string, query: string): string => (query === '' ? path : `${path}?${query}`);

export function splitTarget(target: string): readonly [path: string, query: string] {
  const mark = target.indexOf('?');
  return mark < 0 ? [target, ''] : [target.slice(0, mark), target.slice(mark + 1)];
}
