import type { Millis } from '../base/time.ts';
import type { Address, Link } from './link.ts';

/** How long a resolved name is used before it is looked up again. */
const FRESH_MS: Millis = 60_000;
/** Names kept at most. */
const MAX_NAMES = 1024;

interface Resolved {
  readonly address: Address;
  readonly at: Millis;
}

/**
 * A link that also sends to `name:port`. A name is looked up when it is first needed and again once the answer is a
 * minute old; while no answer is there, what is sent is lost, which a link may do.
 */
export function resolvingLink({
  link,
  lookup,
  now,
}: {
  readonly link: Link;
  /** The numeric address of a `name:port`, or undefined where there is none. */
  readonly lookup: (address: Address) => Promise<Address | undefined>;
  /** Monotonic milliseconds. */
  readonly now: () => Millis;
}): Link {
  const resolved = new Map<Address, Resolved>();
  const asking = new Set<Address>();

  const ask = async (name: Address): Promise<void> => {
    if (asking.has(name) || asking.size >= MAX_NAMES) return;
    asking.add(name);
    try {
      const address = await lookup(name);
      if (address === undefined) return;
      if (resolved.size >= MAX_NAMES) resolved.clear();
      resolved.set(name, { address, at: now() });
    } finally {
      asking.delete(name);
    }
  };

  return {
    profile: link.profile,
    onReceive: (receive) => link.onReceive(receive),
    close: () => link.close(),
    send(to, bytes, label) {
      if (isNumeric(to)) return link.send(to, bytes, label);
      const known = resolved.get(to);
      if (known !== undefined) link.send(known.address, bytes, label);
      if (known !== undefined && now() - known.at < FRESH_MS) return;
      void ask(to).then(() => {
        const first = known === undefined ? resolved.get(to) : undefined;
        if (first !== undefined) link.send(first.address, bytes, label);
      });
    },
  };
}

/** Whether an address starts with an IPv4 or bracketed IPv6 literal. */
const isNumeric = (address: Address): boolean =>
  /^(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]):/.test(address);
