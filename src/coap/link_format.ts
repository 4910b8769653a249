import { assert } from '../base/assert.ts';
import { bad, ok, type Result } from '../base/result.ts';

/** The Content-Format of what is written here (RFC 7252, section 12.3). */
export const LINK_FORMAT = 40;

export interface LinkAttribute {
  /** Such as `rt`, `if`, `ct`, `sz`, `title`, `obs`. */
  readonly name: string;
  /** Unquoted; null where the name stands alone, as `obs` does. */
  readonly value: string | null;
}

/** One entry of a list of links (RFC 6690, section 2). */
export interface WebLink {
  /** A URI reference, relative ones to the resource that lists it. */
  readonly target: string;
  /** In the order in which they stand. Where one is repeated that may not be, the first counts. */
  readonly attributes: readonly LinkAttribute[];
}

/** Attributes with several values, separated by spaces (sections 3.1, 3.2; RFC 8288, section 3.3; RFC 7252, 7.2.1). */
const LISTS: ReadonlySet<string> = new Set(['rt', 'if', 'rel', 'rev', 'ct']);

const NAME = /[A-Za-z0-9!#$&+\-.^_`|~]+\*?/y;
/** `ptoken`: a value that needs no quotes. */
const TOKEN = /[A-Za-z0-9!#$%&'()*+\-./:<=>?@[\]^_`{|}~]+/y;
const TARGET = /<([^>]*)>/y;
/** The grammar has no white space, but lists that people write do, between links and around parameters. */
const SPACE = /[ \t\r\n]*/y;
/** Text in the form of RFC 8187 (`title*`), which is never quoted. */
const isExtended = (name: string): boolean => name.endsWith('*');

/** The first value of an attribute; undefined where the link has none, or one without a value. */
export const attributeOf = (link: WebLink, name: string): string | undefined =>
  link.attributes.find((attribute) => attribute.name === name)?.value ?? undefined;

export const hasAttribute = (link: WebLink, name: string): boolean =>
  link.attributes.some((attribute) => attribute.name === name);

/** The list as text: `</a>;rt="x y";sz=12,</b>;obs`. */
export const encodeLinks = (links: readonly WebLink[]): string => links.map(encodeLink).join(',');

function encodeLink({ target, attributes }: WebLink): string {
  assert(/^[^<>\p{Cc}]*$/u.test(target), 'a target is a URI reference');
  return `<${target}>${attributes.map(encodeAttribute).join('')}`;
}

function encodeAttribute({ name, value }: LinkAttribute): string {
  assert(matchesWhole(NAME, name), 'an attribute has a name');
  if (value === null) return `;${name}`;
  assert(!isExtended(name) || matchesWhole(TOKEN, value), 'an extended value is a token');
  // A number must not be quoted (`sz`); everything else usually is, and always may be.
  const bare = isExtended(name) || /^(?:0|[1-9]\d*)$/.test(value);
  return `;${name}=${bare ? value : `"${value.replace(/["\\]/g, '\\$&')}"`}`;
}

const matchesWhole = (pattern: RegExp, text: string): boolean => {
  pattern.lastIndex = 0;
  return pattern.exec(text)?.[0] === text;
};

/** The links of a text of that format (RFC 6690, section 2); an empty text has none. The problem says where it ends. */
export function parseLinks(text: string): Result<readonly WebLink[]> {
  const reader = new Reader(text);
  const links: WebLink[] = [];
  reader.take(SPACE);
  if (reader.ended) return ok(links);
  for (;;) {
    const target = reader.take(TARGET);
    if (target === undefined) return reader.bad('a target in angle brackets');
    const attributes: LinkAttribute[] = [];
    reader.take(SPACE);
    while (reader.skip(';')) {
      const attribute = attributeIn(reader);
      if (!attribute.ok) return attribute;
      attributes.push(attribute.value);
    }
    links.push({ target, attributes });
    if (reader.ended) return ok(links);
    if (!reader.skip(',')) return reader.bad('a semicolon or a comma');
  }
}

function attributeIn(reader: Reader): Result<LinkAttribute> {
  const name = reader.take(NAME);
  if (name === undefined) return reader.bad("an attribute's name");
  reader.take(SPACE);
  if (!reader.skip('=')) return ok({ name, value: null });
  const value = (isExtended(name) ? undefined : reader.quoted()) ?? reader.take(TOKEN);
  if (value === undefined) return reader.bad("an attribute's value");
  reader.take(SPACE);
  return ok({ name, value });
}

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get ended(): boolean {
    return this.#at === this.#text.length;
  }

  /** What `pattern` (sticky) finds here: its first group, or all of it. */
  take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found === null) return undefined;
    this.#at = pattern.lastIndex;
    return found[1] ?? found[0];
  }

  /** What stands in quotes here, without them and without the backslashes. */
  quoted(): string | undefined {
    if (this.#text[this.#at] !== '"') return undefined;
    let value = '';
    for (let at = this.#at + 1; at < this.#text.length; at++) {
      if (this.#text[at] === '"') {
        this.#at = at + 1;
        return value;
      }
      if (this.#text[at] === '\\') at++;
      value += this.#text[at] ?? '';
    }
    return undefined;
  }

  /** Passes over one character and the space behind it, if it is that one. */
  skip(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    this.take(SPACE);
    return true;
  }

  bad(expected: string): { readonly ok: false; readonly problem: string } {
    return bad(`${expected} was expected at character ${this.#at + 1}`);
  }
}

/**
 * The links that a request's query asks for (RFC 6690, section 4.1): `href=/a*`, `rt=x`. Several filters narrow each
 * other; what is not of the form `name=pattern` is no filter.
 * @param query the values of the Uri-Query options, decoded as they are
 */
export function filterLinks(links: readonly WebLink[], query: readonly string[]): WebLink[] {
  const filters = query
    .map((part) => /^([^=]+)=(.*)$/s.exec(part))
    .filter((match) => match !== null)
    .map(([, name, pattern]) => ({ name: name!, pattern: pattern! }));
  return links.filter((link) => filters.every(({ name, pattern }) => isMatch(link, name, pattern)));
}

function isMatch(link: WebLink, name: string, pattern: string): boolean {
  const prefix = pattern.endsWith('*') ? pattern.slice(0, -1) : undefined;
  const fits = (value: string): boolean =>
    prefix === undefined ? value === pattern : value.startsWith(prefix);
  if (name === 'href') return fits(link.target);
  const attribute = link.attributes.find((one) => one.name === name);
  if (attribute === undefined) return false;
  const value = attribute.value ?? '';
  return fits(value) || (LISTS.has(name) && value.split(' ').some(fits));
}
