import { assert } from '../base/assert.ts';
import { equal } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import type { CoapResponse } from './api.ts';
import { nameOf } from './assembly.ts';
import { type Block, type BlockSize, blockOption, smaller } from './block.ts';
import { code } from './codes.ts';
import type { Core, Peer } from './core.ts';
import { NO_BYTES } from './message.ts';
import { firstOption, OPTION, type Option, uintOption } from './options.ts';

interface Body {
  readonly peer: Peer;
  readonly selector: Uint8Array;
  /** What is older and comes late does not take its place. */
  readonly order: number;
  readonly response: CoapResponse;
  expiresAt: Millis;
}

/** Short, since every block carries it; it has to differ only from the operation's previous representations. */
const ETAG_BYTES = 2;

/** Large responses, kept while their blocks are fetched (RFC 7959, section 2.4). */
export class Bodies {
  readonly #core: Core;
  /** The least recently used first. */
  readonly #bodies = new Map<string, Body>();
  #bytes = 0;

  constructor(core: Core) {
    this.#core = core;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Keeps a response for the blocks that follow its first. Returns it with the ETag that all of them carry.
   * @param selector see `Asked`.
   */
  keep(
    peer: Peer,
    key: string,
    { selector, order }: { readonly selector: Uint8Array; readonly order: number },
    response: CoapResponse,
    now: Millis,
  ): CoapResponse {
    const { limits, random, timing } = this.#core;
    assert(response.payload.length <= limits.bodyBytes, 'a response is not larger than a body may be');
    const name = nameOf(peer, key);
    const before = this.#bodies.get(name);
    if (before !== undefined && isTagged(before.response, response) && equal(before.selector, selector)) {
      // The same again, such as for a second observer: who is fetching it need not start over.
      return this.find(peer, key, selector, now)!;
    }
    const tagged =
      firstOption(response.options, OPTION.eTag) !== undefined
        ? response
        : {
            ...response,
            options: [...response.options, { number: OPTION.eTag, value: random.bytes(ETAG_BYTES) }],
          };
    if ((before?.order ?? -1) > order) return tagged;
    this.#drop(name);
    this.#bytes += response.payload.length;
    const expiresAt = now + timing(peer.name).exchangeLifetime;
    this.#bodies.set(name, { peer, selector, order, response: tagged, expiresAt });
    this.trim(name);
    return tagged;
  }

  /**
   * Drops the least recently used ones beyond the bounds, of which responses under way by selective repeat take a part.
   * @param kept the name of one that stays.
   */
  trim(kept?: string): void {
    const { cachedBodyBytes, bodies } = this.#core.limits;
    for (const oldest of this.#bodies.keys()) {
      if (this.#bytes + this.#core.responding <= cachedBodyBytes && this.#bodies.size <= bodies) break;
      if (oldest !== kept) this.#drop(oldest);
    }
  }

  /** What is kept for an operation; a FETCH finds only what it has selected, if it says that again. */
  find(peer: Peer, key: string, selector: Uint8Array, now: Millis): CoapResponse | undefined {
    const name = nameOf(peer, key);
    const body = this.#bodies.get(name);
    if (body === undefined || (selector.length > 0 && !equal(selector, body.selector))) return undefined;
    body.expiresAt = now + this.#core.timing(peer.name).exchangeLifetime;
    this.#bodies.delete(name);
    this.#bodies.set(name, body);
    return body.response;
  }

  expire(now: Millis): void {
    for (const [name, body] of this.#bodies) if (body.expiresAt <= now) this.#drop(name);
  }

  forget(peer: Peer): void {
    for (const [name, body] of this.#bodies) if (body.peer === peer) this.#drop(name);
  }

  #drop(name: string): void {
    this.#bytes -= this.#bodies.get(name)?.response.payload.length ?? 0;
    this.#bodies.delete(name);
  }
}

/** Whether `tagged` is `response` with an ETag that was made here. */
function isTagged(tagged: CoapResponse, response: CoapResponse): boolean {
  const same = (one: Option, other: Option | undefined): boolean =>
    one.number === other?.number && equal(one.value, other.value);
  return (
    tagged.code === response.code &&
    tagged.options.length === response.options.length + 1 &&
    response.options.every((option, i) => same(option, tagged.options[i])) &&
    tagged.options.at(-1)!.number === OPTION.eTag &&
    equal(tagged.payload, response.payload)
  );
}

/**
 * The block of a response that `asked` names, in blocks of at most `size` bytes; 4.00 where there is none.
 * @param total whether to say how large the whole is (RFC 7959, section 4).
 */
export function blockOfResponse(
  response: CoapResponse,
  asked: Block,
  size: BlockSize,
  total: boolean,
): CoapResponse {
  const start = asked.num * asked.size;
  const used = smaller(asked.size, size);
  if (start > 0 && start >= response.payload.length)
    return { code: code(4, 0), options: [], payload: NO_BYTES };
  const more = start + used < response.payload.length;
  const options = [...response.options, blockOption(OPTION.block2, { num: start / used, more, size: used })];
  if (total) options.push(uintOption(OPTION.size2, response.payload.length));
  return { code: response.code, options, payload: response.payload.subarray(start, start + used) };
}
