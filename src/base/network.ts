import { isIPv4, isIPv6 } from 'node:net';

/**
 * The IPv4 address, or the first 64 bits of the IPv6 address: the rest is for whoever has these to choose.
 * @param address with a port or without
 */
export function networkOf(address: string): string {
  const host = isIPv6(address) ? address : address.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  const dotted = host.replace(/^::ffff:/i, '');
  if (isIPv4(dotted)) return dotted;
  if (!isIPv6(host)) return 'elsewhere';
  const [head = '', tail] = host.split('::');
  const before = head.split(':');
  const after = tail?.split(':') ?? [];
  const gap = tail === undefined ? 0 : Math.max(0, 8 - before.length - after.length);
  return [...before, ...Array<string>(gap).fill('0'), ...after]
    .slice(0, 4)
    .map((group) => Number.parseInt(group || '0', 16).toString(16))
    .join(':');
}
