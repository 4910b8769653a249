import { lookup } from 'node:dns/promises';
import type { Address } from '../link/link.ts';

/** The numeric form of `name:port` by the system's resolver, or undefined where the name has no address. */
export async function lookupAddress(address: Address): Promise<Address | undefined> {
  const at = address.lastIndexOf(':');
  try {
    const found = await lookup(address.slice(0, at));
    return `${found.family === 6 ? `[${found.address}]` : found.address}${address.slice(at)}`;
  } catch {
    return undefined;
  }
}
