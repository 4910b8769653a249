import { isIPv4, isIPv6 } from 'node:net';
import { concat, fromHex, fromUtf8, utf8 } from '../../base/bytes.ts';
import { bad, ok, type Result } from '../../base/result.ts';
import { OPTION, type Option } from '../../coap/options.ts';

// The specifications' (RFC 7252, sections 6.1 and 5.10; RFC 8323, sections 8.3 and 8.4).
const DEFAULT_PORTS = { coap: 5683, ravine: 5683, 'coap+ws': 80, 'coaps+ws': 443 } as const;
const MAX_URI_OPTION_BYTES = 255;

export type Scheme = keyof typeof DEFAULT_PORTS;

/** Where a request goes and what it asks for. */
export interface CoapUri {
  readonly scheme: Scheme;
  /** An IP address (IPv6 without brackets) or a name in lower case. */
  readonly host: string;
  readonly port: number;
  /** `ravine` only: the server that is expected at the other end of the pipe. */
  readonly serverName: string;
  /** Uri-Host where the host is a name, Uri-Path, Uri-Query (RFC 7252, section 6.4). */
  readonly options: readonly Option[];
  /** As they stand, for what is not CoAP's options: percent-encoded, the path beginning with a slash. */
  readonly path: string;
  readonly query: string;
}

/** The parts of RFC 3986, appendix B; with a scheme and an authority, or it is none of ours. */
const PARTS = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?$/s;

/** Decomposes a URI into a destination and options (RFC 7252, section 6.4). The problem is a sentence. */
export function parseCoapUri(text: string): Result<CoapUri> {
  const parts = PARTS.exec(text);
  const scheme = parts?.[1]?.toLowerCase() ?? '';
  const known = Object.keys(DEFAULT_PORTS).map((name) => `${name}://`);
  if (parts === null || !Object.hasOwn(DEFAULT_PORTS, scheme))
    return bad(`${text} is not a URI for CoAP: those begin with ${known.join(', ')}.`);
  const [, , authority = '', rawPath = '', query = '', fragment] = parts;
  if (fragment !== undefined)
    return bad('A URI for CoAP has no fragment. Where the # belongs to the path or query, write %23.');
  const destination = parseAuthority(authority, scheme as Scheme);
  if (!destination.ok) return destination;
  const path = withoutDots(rawPath === '' ? '/' : rawPath);
  const segments = path === '/' ? [] : path.slice(1).split('/');
  const uriPath = decoded(OPTION.uriPath, 'A part of the path', segments);
  if (!uriPath.ok) return uriPath;
  const uriQuery = decoded(
    OPTION.uriQuery,
    'A part of the query',
    parts[4] === undefined ? [] : query.split('&'),
  );
  if (!uriQuery.ok) return uriQuery;
  const { host } = destination.value;
  // On a WebSocket the name was said when the connection was made (RFC 8323, section 8.5).
  const named = scheme === 'coap' && !isIPv4(host) && !isIPv6(host);
  const uriHost = named ? [{ number: OPTION.uriHost, value: utf8(host) }] : [];
  const options = [...uriHost, ...uriPath.value, ...uriQuery.value];
  return ok({ scheme: scheme as Scheme, ...destination.value, options, path, query });
}

function parseAuthority(
  authority: string,
  scheme: Scheme,
): Result<Pick<CoapUri, 'host' | 'port' | 'serverName'>> {
  const at = authority.lastIndexOf('@');
  const user = authority.slice(0, Math.max(0, at));
  if (at >= 0 && scheme !== 'ravine')
    return bad(`There is no user in a ${scheme} URI: leave out what stands before the @.`);
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d*))?$/.exec(authority.slice(at + 1));
  if (match === null)
    return bad(`${authority} is not a host and a port. An IPv6 address stands in brackets.`);
  const [, six, name, digits = ''] = match;
  const port = digits === '' ? DEFAULT_PORTS[scheme] : Number(digits);
  if (port < 1 || port > 65_535) return bad(`${digits} is not a port: those are 1 to 65535.`);
  const host = six === undefined ? textOf(name!)?.toLowerCase() : textOf(six);
  if (host === undefined || host === '') return bad('The URI names no host.');
  if (six !== undefined && !isIPv6(host)) return bad(`[${six}] is not an IPv6 address.`);
  const serverName = textOf(user);
  if (serverName === undefined) return bad(`${user} is not a server name.`);
  return ok({ host, port, serverName: serverName === '' ? host : serverName });
}

/** Percent-decoded, or undefined where that is not UTF-8. */
const textOf = (text: string): string | undefined => fromUtf8(percentDecoded(text));

/** Every percent-encoding made the byte that it stands for; what is no ASCII as UTF-8 (RFC 3987, section 3.1). */
function percentDecoded(text: string): Uint8Array {
  const parts = text.split(/(%[0-9A-Fa-f]{2})/);
  return concat(...parts.map((part, i) => (i % 2 === 1 ? fromHex(part.slice(1))! : utf8(part))));
}

function decoded(number: number, what: string, parts: readonly string[]): Result<readonly Option[]> {
  const options = parts.map((part) => ({ number, value: percentDecoded(part) }));
  for (const [i, { value }] of options.entries()) {
    if (fromUtf8(value) === undefined) return bad(`${what} is not UTF-8: ${parts[i]}`);
    if (value.length > MAX_URI_OPTION_BYTES)
      return bad(`${what} has ${value.length} bytes; CoAP takes ${MAX_URI_OPTION_BYTES} at most.`);
  }
  return ok(options);
}

/** A path without the segments `.` and `..` (RFC 3986, section 5.2.4), which no option may hold. */
function withoutDots(path: string): string {
  const kept: string[] = [];
  const segments = path.slice(1).split('/');
  for (const [i, segment] of segments.entries()) {
    const dots = segment.replace(/%2e/gi, '.');
    if (dots !== '.' && dots !== '..') kept.push(segment);
    else {
      if (dots === '..') kept.pop();
      if (i === segments.length - 1) kept.push('');
    }
  }
  return `/${kept.join('/')}`;
}
