import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { getCACertificates } from 'node:tls';
import type { Millis } from '../../base/time.ts';
import { splitServerName } from '../../federation/server_resolution.ts';
import { parseServerName } from '../../matrix/ids.ts';
import { readPem, readTls } from '../../server/certificates.ts';
import type { Config, HttpListener } from '../../server/config.ts';
import { error, type Finding, fine, messageOf, warning } from './finding.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
/** What renews certificates by itself does so earlier. */
const FEW_DAYS = 14;
const PEM = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;
/** Certificates between the first and one that is trusted: more than anybody has. */
const MAX_CHAIN = 10;

/** What is wrong with the files of certificates that are trusted besides the system's. */
export function checkAuthorities({ federation }: Config): Finding[] {
  return federation.certificate_authorities.flatMap((file) => {
    try {
      if ((readPem(file).match(PEM) ?? []).map((text) => new X509Certificate(text)).length > 0) return [];
      return [error('certificate authorities', `${file} has no certificate`, 'Put one there, in PEM.')];
    } catch (thrown) {
      const todo = 'The server does not start without it: put it there, or take it out.';
      return [error('certificate authorities', messageOf(thrown), todo)];
    }
  });
}

/** The certificates that the listeners present: key, names, chain and time. @param now Unix time in milliseconds */
export function checkCertificates(config: Config, now: Millis): Finding[] {
  const listeners = config.http.listen.filter(({ tls }) => tls !== undefined);
  if (listeners.length === 0) return [fine('certificates', 'no listener speaks TLS: a proxy has to')];
  return listeners.flatMap(({ port, tls }) => checkOne(`certificate of port ${port}`, tls!, config, now));
}

function checkOne(
  check: string,
  files: NonNullable<HttpListener['tls']>,
  config: Config,
  now: Millis,
): Finding[] {
  let chain: X509Certificate[];
  try {
    chain = (readTls(files).cert.match(PEM) ?? []).map((text) => new X509Certificate(text));
  } catch (thrown) {
    return [error(check, messageOf(thrown), 'Put a certificate and its key there, in PEM.')];
  }
  const [first] = chain;
  if (first === undefined)
    return [error(check, `${files.certificate} has no certificate`, 'Put one there, in PEM.')];
  const problems = [
    ...timeProblems(check, chain, now),
    ...nameProblems(check, first, config),
    ...chainProblems(check, chain, config),
  ];
  if (problems.length > 0) return problems;
  return [fine(check, `${first.subjectAltName ?? first.subject}, ${daysLeft(first, now)} days left`)];
}

const daysLeft = ({ validTo }: X509Certificate, now: Millis): number =>
  Math.floor((Date.parse(validTo) - now) / DAY_MS);

function timeProblems(check: string, chain: readonly X509Certificate[], now: Millis): Finding[] {
  const todo = 'Renew it; the server takes the new files by itself.';
  return chain.flatMap((one) => {
    const days = daysLeft(one, now);
    if (Date.parse(one.validFrom) > now)
      return [error(check, `it is valid from ${one.validFrom} on only`, "Look at this machine's clock.")];
    if (days < 0) return [error(check, `it has run out on ${one.validTo}`, todo)];
    return days < FEW_DAYS ? [warning(check, `it runs out in ${days} days`, todo)] : [];
  });
}

/** The certificate of a listener has to be good for one of the hosts that people are told to connect to. */
function nameProblems(check: string, first: X509Certificate, config: Config): Finding[] {
  const { public_base_url, well_known } = config.http;
  const hosts = [config.server_name, well_known.server ?? ''].flatMap((text) => {
    const name = parseServerName(text);
    return name.ok ? [splitServerName(name.value).host] : [];
  });
  if (public_base_url !== null && URL.canParse(public_base_url))
    hosts.push(new URL(public_base_url).hostname);
  const isFor = (host: string): boolean => {
    const bare = host.replace(/^\[|\]$/g, '');
    return (isIP(bare) === 0 ? first.checkHost(bare) : first.checkIP(bare)) !== undefined;
  };
  if (hosts.some(isFor)) return [];
  const says = `it is for ${first.subjectAltName ?? first.subject}, none of ${[...new Set(hosts)].join(', ')}`;
  return [error(check, says, 'Get one for the host that clients or servers connect to.')];
}

/** Whether others come from the first certificate to one that they trust. */
function chainProblems(check: string, chain: readonly X509Certificate[], config: Config): Finding[] {
  const own = config.federation.certificate_authorities.flatMap((file) => readPem(file).match(PEM) ?? []);
  const roots = [...getCACertificates('default'), ...getCACertificates('system'), ...own].flatMap((text) => {
    try {
      return [new X509Certificate(text)];
    } catch {
      // One of the system's that this OpenSSL does not read.
      return [];
    }
  });
  let at = chain[0]!;
  for (let length = 0; length < MAX_CHAIN; length++) {
    if (roots.some((root) => root.raw.equals(at.raw) || isIssuedBy(at, root))) return [];
    const next = chain.find((one) => one !== at && isIssuedBy(at, one));
    if (next === undefined) break;
    at = next;
  }
  if (isIssuedBy(at, at))
    return [
      warning(
        check,
        'it is signed by itself: other servers do not accept it',
        'Get one from an authority that all know.',
      ),
    ];
  const says = `no authority that this machine knows has issued it; the chain ends at ${oneLine(at.issuer)}`;
  return [warning(check, says, 'Put the whole chain into the file (often "fullchain.pem").')];
}

const isIssuedBy = (one: X509Certificate, issuer: X509Certificate): boolean =>
  one.checkIssued(issuer) && one.verify(issuer.publicKey);

const oneLine = (text: string): string => text.replaceAll('\n', ', ');
