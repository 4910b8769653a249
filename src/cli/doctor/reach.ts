import { createSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import { getCACertificates } from 'node:tls';
import { Agent, request } from 'undici';
import { systemRandom } from '../../base/random.ts';
import { type Millis, systemClock } from '../../base/time.ts';
import { CoapSocket } from '../../exchange/coap_socket.ts';
import { openUdpLink } from '../../link/udp.ts';
import { readPem } from '../../server/certificates.ts';
import type { Config } from '../../server/config.ts';
import type { Outside, OutsideAnswer, UdpFinding } from './outside.ts';

const TIMEOUT_MS: Millis = 10_000;
const PING_TIMEOUT_MS: Millis = 3_000;
/** Of an answer: none of those that are asked for is longer. */
const MAX_ANSWER_BYTES = 64 * 1024;

/** The network as it is. @param ownKeys asks for this server's keys as others do */
export function openOutside(
  config: Config,
  ownKeys: Outside['ownKeys'],
): Outside & { close(): Promise<void> } {
  const own = config.federation.certificate_authorities.map(readPem);
  const ca = [...getCACertificates('default'), ...getCACertificates('system'), ...own];
  const dispatcher = new Agent({ connect: { ca }, maxResponseSize: MAX_ANSWER_BYTES });
  return {
    get: (url) => get(url, dispatcher),
    udp: askUdp,
    ownKeys,
    now: () => systemClock.wall(),
    close: () => dispatcher.destroy(),
  };
}

async function get(url: string, dispatcher: Agent): Promise<OutsideAnswer> {
  const timeout = new AbortController();
  const cancel = systemClock.after(TIMEOUT_MS, () => timeout.abort(new Error('no answer in time')));
  try {
    const { statusCode, headers, body } = await request(url, { dispatcher, signal: timeout.signal });
    const date = Date.parse(String(headers.date));
    return {
      status: statusCode,
      date: Number.isNaN(date) ? undefined : date,
      anyOrigin: headers['access-control-allow-origin'] === '*',
      json: parsed(await body.text()),
    };
  } finally {
    cancel();
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function askUdp(host: string, port: number): Promise<UdpFinding> {
  if (await isFree(host, port)) return 'free';
  const isSix = isIPv6(host);
  const at = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  const link = await openUdpLink({ host: isSix ? '::' : '0.0.0.0', port: 0 });
  const socket = new CoapSocket({ link, clock: systemClock, random: systemRandom });
  try {
    await socket.ping(`${isSix ? `[${at}]` : at}:${port}`, { timeoutMs: PING_TIMEOUT_MS });
    return 'answers';
  } catch {
    return 'taken';
  } finally {
    await socket.close();
  }
}

/** @throws the system's error where the address is none of this machine's */
function isFree(host: string, port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
    socket.on('error', (problem: NodeJS.ErrnoException) => {
      socket.close();
      if (problem.code === 'EADDRINUSE') resolve(false);
      else reject(problem);
    });
    socket.bind({ address: host, port, exclusive: true }, () => socket.close(() => resolve(true)));
  });
}
