import { InvalidArgumentError } from 'commander';

/** A parser of whole numbers from `least` to `most`. */
export function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It takes a whole number from ${least} to ${most}.`);
  };
}

/** A probability below 1: a link that loses everything never ends. */
export function probability(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && value >= 0 && value < 1) return value;
  throw new InvalidArgumentError('It takes a number from 0 to less than 1.');
}

/** A parser of `host:port`; an IPv6 address stands in brackets. */
export function hostAndPort(text: string): string {
  const port = Number(/^(?:\[[^\]]+\]|[^:[\]\s]+):(\d{1,5})$/.exec(text)?.[1]);
  if (port >= 1 && port <= 65_535) return text;
  throw new InvalidArgumentError('It takes a host, a colon, and a port.');
}
