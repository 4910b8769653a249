import type { Logger } from 'pino';
import { systemRandom } from '../base/random.ts';
import { type Clock, systemClock } from '../base/time.ts';
import { coapOverWebSocket } from '../exchange/websocket_coap.ts';
import { pipeAddresses, serialLink, UDP_LINK, WEBSOCKET_LINK } from '../federation/transports.ts';
import type { LinkProfile } from '../link/link.ts';
import { resolvingLink } from '../link/resolving.ts';
import { type SerialDevice, SerialLink } from '../link/serial.ts';
import { openUdpLink } from '../link/udp.ts';
import { WebSocketLink } from '../link/websocket.ts';
import { webSocketDialler } from '../link/websocket_server.ts';
import type { Config, SerialConfig } from './config.ts';
import { peerEntry, type ServerLink } from './homeserver.ts';
import { lookupAddress } from './lookup.ts';

/** The links that a configuration names. */
export interface OpenLinks {
  readonly links: readonly ServerLink[];
  /** What was bound, as `host:port`. */
  readonly udp: string;
  /** Where connections from HTTP doors go; undefined where none are taken. */
  readonly webSocket: WebSocketLink | undefined;
  /** Closes all of them. */
  close(): Promise<void>;
}

/**
 * Opens the UDP port, the WebSocket link, and the serial links; a serial device that is not there is waited for.
 * @param authorities PEM certificates trusted besides the system's
 * @throws the system's error where the UDP address cannot be bound
 */
export async function openLinks(
  config: Config,
  authorities: readonly string[],
  log: Logger,
): Promise<OpenLinks> {
  const { host, port, plain, link, websocket, serial } = config.coap;
  const clock = systemClock;
  const newDevice = serial.length > 0 ? await serialDevices() : undefined;
  const { rate, delay_ms: delay, mtu, airtime_per_hour_s } = link;
  const profile = { rate, delay, mtu, ...budget(airtime_per_hour_s) };
  const udp = await openUdpLink({ host, port, profile });
  const links: ServerLink[] = [
    {
      name: UDP_LINK,
      link: resolvingLink({ link: udp, lookup: lookupAddress, now: () => clock.monotonic() }),
      plain,
    },
  ];
  for (const line of serial) links.push(openSerial(line, newDevice!, clock, log));
  const webSocket = openWebSockets(config, authorities, clock);
  if (webSocket !== undefined) {
    // A connection has shown where its other end is.
    const isPlain = plain === 'trusted' || plain === 'proved';
    links.push({
      name: WEBSOCKET_LINK,
      link: coapOverWebSocket({ link: webSocket, plain: isPlain }),
      plain: isPlain ? 'trusted' : 'off',
    });
  }
  return {
    links,
    udp: udp.address,
    webSocket: websocket ? webSocket : undefined,
    async close() {
      for (const opened of links) await opened.link.close();
    },
  };
}

const budget = (seconds: number | null): Pick<LinkProfile, 'airtimePerHourMs'> =>
  seconds === null ? {} : { airtimePerHourMs: seconds * 1000 };

type NewDevice = (path: string, baudRate: number) => SerialDevice;

/** The library brings machine code, which is loaded where it is needed only. */
async function serialDevices(): Promise<NewDevice> {
  const { SerialPort } = await import('serialport');
  return (path, baudRate) => new SerialPort({ path, baudRate, autoOpen: false });
}

function openSerial(line: SerialConfig, device: NewDevice, clock: Clock, log: Logger): ServerLink {
  const { name, path, baud, framing, ax25, plain = 'off', rate, delay_ms, mtu, overhead } = line;
  const { airtime_per_hour_s = null } = line;
  const link = new SerialLink({
    name,
    baud,
    framing,
    ...(ax25 && { callsign: ax25.callsign }),
    profile: {
      ...(rate !== undefined && { rate }),
      ...(delay_ms !== undefined && { delay: delay_ms }),
      ...(mtu !== undefined && { mtu }),
      ...(overhead !== undefined && { overhead }),
      ...budget(airtime_per_hour_s),
    },
    clock,
    device: () => device(path, baud),
    onState(state) {
      if (state.kind === 'opened') log.info({ link: name, path }, 'the serial device is open');
      else {
        const { reason, retryAfterMs } = state;
        log.warn({ link: name, path, reason, retryAfterMs }, 'the serial device is not there');
      }
    },
  });
  return { name: serialLink(name), link, plain };
}

/** Undefined where no connection is taken or made. */
function openWebSockets(
  { coap, federation }: Config,
  authorities: readonly string[],
  clock: Clock,
): WebSocketLink | undefined {
  const urls = [...pipeAddresses(federation.peers.map(peerEntry)).values()]
    .filter(({ link }) => link === WEBSOCKET_LINK)
    .map(({ address }) => address);
  if (!coap.websocket && urls.length === 0) return undefined;
  const link = new WebSocketLink({
    clock,
    random: systemRandom,
    dial: webSocketDialler(authorities),
  });
  // Kept from the start: the other side may have no way to call us.
  for (const url of urls) link.connect(url);
  return link;
}
