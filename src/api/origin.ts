import { isIP } from 'node:net';
import type { FastifyRequest } from 'fastify';
import { networkOf } from '../base/network.ts';
import type { Origin } from '../homeserver/sessions.ts';
import { CALLER } from './caller.ts';

/**
 * What is to be held to a rate: a server that a door has proved, or the network that an address belongs to. A device
 * that a door has proved counts with its address as well, since a new key costs nothing.
 */
export function placesOf({ raw, ip }: FastifyRequest): string[] {
  const caller = raw[CALLER];
  if (caller?.kind === 'server') return [caller.name];
  return caller?.kind === 'device' ? [caller.key, networkOf(ip)] : [networkOf(ip)];
}

/** Where a request comes from, as it is noted and as logins are held to a rate. */
export function originOf(request: FastifyRequest): Origin {
  const { raw, ip, headers } = request;
  const isOfServer = raw[CALLER]?.kind === 'server';
  return {
    place: placesOf(request).at(-1)!,
    // What a server passes on says nothing of where it was sent.
    ip: isOfServer ? null : hostOf(ip),
    agent: headers['user-agent'] ?? null,
  };
}

/** An IP address without the port that a datagram's has; null for other kinds of addresses. */
function hostOf(address: string): string | null {
  const host = isIP(address) ? address : address.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return isIP(host) ? host : null;
}
