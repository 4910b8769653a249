import type { KeyClient, SeenKeys } from './client.ts';
import type { Name } from './home.ts';

/** A device as whoever drives the run knows it. */
export class LoggedDevice {
  readonly client: KeyClient;
  name: string | undefined;
  isAlive = true;
  hasKeys = false;
  hasFallback = false;
  /** One-time keys that have been sent to the server, and how many of them it has said that it has. */
  readonly uploaded = new Set<string>();
  stored = 0;
  /** One-time keys that somebody has been given. */
  readonly handed = new Set<string>();
  /** Claims of which nobody knows what came of them, and those under way. */
  lostClaims = 0;
  openClaims = 0;
  /** Does one thing at a time. */
  isBusy = false;

  constructor(client: KeyClient) {
    this.client = client;
  }

  /** How many keys the server has at most and at least. */
  get keysLeft(): { readonly most: number; readonly least: number } {
    const most = this.stored - this.handed.size;
    return { most, least: most - this.lostClaims - this.openClaims };
  }

  /** Notes that somebody has been given a key. @throws Error where that must not be */
  claimed(key: string, isFallback: boolean): void {
    const whose = `of ${this.client.user} ${this.client.device}`;
    if (isFallback) {
      if (!this.hasFallback) throw new Error(`there is no fallback key ${whose}`);
      if (this.keysLeft.least > 0)
        throw new Error(`a fallback key ${whose} is given though there are others`);
      return;
    }
    if (!this.uploaded.has(key)) throw new Error(`nobody has uploaded the key ${key} ${whose}`);
    if (this.handed.has(key)) throw new Error(`the key ${key} ${whose} is given twice`);
    this.handed.add(key);
  }
}

export interface LoggedUser {
  readonly home: Name;
  readonly id: string;
  readonly devices: LoggedDevice[];
  master: string | undefined;
}

export interface LoggedMessage {
  readonly from: LoggedDevice;
  /** Devices that were there when it was sent. */
  readonly to: readonly LoggedDevice[];
  /** All of whose devices it is for, also one that comes while it is under way. */
  readonly toAllOf: string | undefined;
  /** Whether it was answered with 200. */
  isTaken: boolean;
}

/** What others have to see of a user's keys in the end. */
export const truth = ({ devices, master }: LoggedUser): SeenKeys => ({
  devices: new Map(
    devices
      .filter(({ isAlive, hasKeys }) => isAlive && hasKeys)
      .map(({ client, name }) => [client.device, client.seenAs(name)]),
  ),
  master,
});

/**
 * Checks that each message was given once to each device that it was for, in the order of its sender.
 * @throws Error where that is not so
 */
export function checkMessages(users: readonly LoggedUser[], messages: readonly LoggedMessage[]): void {
  for (const device of users.flatMap(({ devices }) => devices)) {
    const { user, device: id, received } = device.client;
    const who = `${user} ${id}`;
    if (new Set(received).size < received.length)
      throw new Error(`${who} was given a message twice: ${received}`);
    const last = new Map<LoggedDevice, number>();
    for (const n of received) {
      const message = messages[n];
      if (message === undefined || !(message.to.includes(device) || message.toAllOf === user))
        throw new Error(`${n} was not for ${who}`);
      const before = last.get(message.from) ?? -1;
      if (n < before) throw new Error(`${who} was given ${n} behind ${before}`);
      last.set(message.from, n);
    }
    if (!device.isAlive) continue;
    for (const [n, { to, isTaken }] of messages.entries())
      if (isTaken && to.includes(device) && !received.includes(n)) throw new Error(`${who} has not got ${n}`);
  }
}

/**
 * Checks that a device has the keys of those with whom it shares a room, itself included, and of nobody else.
 * @throws Error where it has not
 */
export function checkKnown({ client }: LoggedDevice, sharers: readonly LoggedUser[]): void {
  const who = `${client.user} ${client.device}`;
  const text = (seen: SeenKeys | undefined): string =>
    JSON.stringify(seen && [[...seen.devices].sort(), seen.master ?? null]);
  for (const user of sharers) {
    const [is, shouldBe] = [text(client.known.get(user.id)), text(truth(user))];
    if (is !== shouldBe) throw new Error(`${who} knows of ${user.id} ${is} and not ${shouldBe}`);
  }
  for (const id of client.known.keys())
    if (!sharers.some((user) => user.id === id)) throw new Error(`${who} still knows ${id}`);
}

/** Checks what a device was told last of how many one-time keys there are of it. @throws Error where that cannot be */
export function checkKeyCount({ client, keysLeft: { least, most } }: LoggedDevice): void {
  if (client.keyCount > most || client.keyCount < least)
    throw new Error(`${client.user} ${client.device} has ${client.keyCount} keys, not ${least} to ${most}`);
}
