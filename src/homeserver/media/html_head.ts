/** Characters of one tag; what is longer is passed over. */
const MAX_TAG_LENGTH = 16 * 1024;
const MAX_TAGS = 20_000;
const MAX_TITLE_LENGTH = 1_000;

/** What a page says of itself. */
export interface PageHead {
  readonly title: string | undefined;
  /** What `<meta>` says, by `property` or `name` in lower case; the first counts. */
  readonly meta: ReadonlyMap<string, string>;
}

/** Elements whose content is no markup, and says nothing of the page. */
const RAW: ReadonlySet<string> = new Set(['script', 'style', 'textarea', 'noscript', 'template', 'svg']);

/**
 * Reads the title and the `<meta>` tags of a page, in time that grows with its length and no faster, whatever is in it. It is
 * no parser of HTML: of what does not look like a tag it takes no notice.
 */
export function readPageHead(html: string): PageHead {
  const meta = new Map<string, string>();
  let title: string | undefined;
  let at = 0;
  for (let tags = 0; tags < MAX_TAGS; tags++) {
    at = html.indexOf('<', at);
    if (at < 0) break;
    if (html.startsWith('<!--', at)) {
      const end = html.indexOf('-->', at + 4);
      if (end < 0) break;
      at = end + 3;
      continue;
    }
    const [, name = ''] = TAG_NAME.exec(html.slice(at, at + 16)) ?? [];
    const end = endOfTag(html, at);
    const tag = html.slice(at, end);
    at = end;
    const lower = name.toLowerCase();
    if (!tag.endsWith('>')) continue;
    if (lower === 'meta') noteMeta(attributesOf(tag.slice(1 + name.length, -1)), meta);
    else if (lower === 'title' && title === undefined) {
      title = textOf(html.slice(at, at + 4 * MAX_TITLE_LENGTH).split(/<\/title/i, 1)[0]!);
    } else if (RAW.has(lower)) {
      const close = closing(lower);
      close.lastIndex = at;
      const found = close.exec(html);
      if (found === null) break;
      at = found.index;
    }
  }
  return { title: title?.slice(0, MAX_TITLE_LENGTH) || undefined, meta };
}

const TAG_NAME = /^<([a-z]+)(?=[\s/>]|$)/i;

const closing = (name: string): RegExp => new RegExp(`</${name}`, 'gi');

/** Behind the tag that begins there. */
function endOfTag(html: string, start: number): number {
  const limit = Math.min(html.length, start + MAX_TAG_LENGTH);
  let quote = '';
  for (let at = start + 1; at < limit; at++) {
    const character = html[at]!;
    if (quote !== '') {
      if (character === quote) quote = '';
    } else if (character === '>') return at + 1;
    else if ((character === '"' || character === "'") && html[at - 1] === '=') quote = character;
  }
  return limit;
}

function noteMeta(attributes: ReadonlyMap<string, string>, meta: Map<string, string>): void {
  const name = (attributes.get('property') ?? attributes.get('name'))?.toLowerCase();
  const content = attributes.get('content');
  if (name !== undefined && content !== undefined && !meta.has(name)) meta.set(name, textOf(content));
}

function attributesOf(text: string): ReadonlyMap<string, string> {
  const attributes = new Map<string, string>();
  for (const [, name = '', double, single, bare] of text.matchAll(
    /([^\s=>/"']+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"']+)))?/g,
  )) {
    const lower = name.toLowerCase();
    if (!attributes.has(lower)) attributes.set(lower, double ?? single ?? bare ?? '');
  }
  return attributes;
}

const ENTITIES: Readonly<Record<string, string>> = {
  ...{ amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: ' ', copy: '©', reg: '®', trade: '™' },
  ...{ hellip: '…', mdash: '—', ndash: '–', lsquo: '‘', rsquo: '’', ldquo: '“', rdquo: '”', laquo: '«' },
  ...{ raquo: '»', middot: '·', bull: '•', euro: '€', pound: '£', shy: '' },
};

/** Text with its references replaced, and white space as one space. */
function textOf(html: string): string {
  return html
    .replaceAll(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|([a-z]{2,8}));/gi, (whole, decimal, hex, name) => {
      if (name !== undefined) return Object.hasOwn(ENTITIES, name) ? ENTITIES[name]! : whole;
      const point = decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal);
      const isText = point >= 0x20 && point <= 0x10ffff && !(point >= 0xd800 && point <= 0xdfff);
      return isText ? String.fromCodePoint(point) : ' ';
    })
    .replaceAll(/\s+/g, ' ')
    .trim();
}

/** The text of a page's bytes, by what its header, a byte order mark or the page itself says of them. */
export function decodePage(bytes: Uint8Array, contentType: string): string {
  const start = Buffer.from(bytes.subarray(0, 1024)).toString('latin1');
  const label =
    /charset\s*=\s*["']?([\w.:-]{1,40})/i.exec(contentType)?.[1] ??
    /<meta[^>]{0,200}charset\s*=\s*["']?([\w.:-]{1,40})/i.exec(start)?.[1] ??
    'utf-8';
  try {
    return new TextDecoder(label).decode(bytes);
  } catch {
    // A name that nobody knows.
    return new TextDecoder().decode(bytes);
  }
}
