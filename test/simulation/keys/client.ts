import type { JsonObject } from '../../../src/matrix/json.ts';
import { DeviceOwner } from '../../homeserver/keys/key_owner.ts';
import type { Answer, Name } from './home.ts';

/** How a client reaches its server. */
export type Ask = (
  method: 'GET' | 'PUT' | 'POST' | 'DELETE',
  path: string,
  body?: JsonObject,
) => Promise<Answer>;

/** What can be seen of a user's keys: by device id its keys and its name, as text, and the master key's. */
export interface SeenKeys {
  readonly devices: ReadonlyMap<string, string>;
  readonly master: string | undefined;
}

const MESSAGE_TYPE = 'test.message';

/**
 * A device that follows `/sync` as the specification tells clients to: it asks for the keys of those of whom it is told that
 * they have changed, and for nobody else's, and forgets those who have left.
 */
export class KeyClient {
  readonly home: Name;
  readonly user: string;
  readonly device: string;
  readonly owner: DeviceOwner;
  readonly token: string;
  readonly ask: Ask;
  #since: string | undefined;
  /** Whose keys it has, as far as it knows right ones. */
  readonly known = new Map<string, SeenKeys>();
  /** Whose it has to ask for. */
  readonly outdated = new Set<string>();
  /** The numbers of the messages that it has been given, in order. */
  readonly received: number[] = [];
  /** What it was told last of how many one-time keys its server has. */
  keyCount = 0;

  constructor(
    home: Name,
    login: { readonly user: string; readonly device: string; readonly token: string },
    ask: Ask,
    seed: number,
  ) {
    this.home = home;
    this.user = login.user;
    this.device = login.device;
    this.token = login.token;
    this.owner = new DeviceOwner({ id: login.user, device: login.device }, seed);
    this.ask = ask;
  }

  /** What others see of this device when it is called so. */
  seenAs(name: string | undefined): string {
    return seen(this.owner.identityKeys(), name);
  }

  /**
   * Takes one answer of /sync.
   * @param arrives whether the answer comes back to it
   * @returns whether there was anything in it; undefined where there was no answer
   */
  async sync(arrives = true): Promise<boolean | undefined> {
    const since = this.#since;
    const { status, json } = await this.ask(
      'GET',
      `/sync?timeout=0&use_state_after=true${since === undefined ? '' : `&since=${since}`}`,
    );
    if (status !== 200 || !arrives) return undefined;
    this.#since = String(json.next_batch);
    const toDevice = ((json.to_device as JsonObject | undefined)?.events ?? []) as {
      type: string;
      content: { n: number };
    }[];
    for (const { type, content } of toDevice) if (type === MESSAGE_TYPE) this.received.push(content.n);
    const counts = json.device_one_time_keys_count as Record<string, number>;
    this.keyCount = counts.signed_curve25519 ?? 0;
    if (since === undefined) return this.#begin(json);
    const lists = (json.device_lists ?? {}) as { changed?: string[]; left?: string[] };
    for (const user of lists.changed ?? []) this.outdated.add(user);
    for (const user of lists.left ?? []) {
      this.outdated.delete(user);
      this.known.delete(user);
    }
    return toDevice.length > 0 || (lists.changed ?? []).length > 0 || (lists.left ?? []).length > 0;
  }

  /** A first answer tells of no changes: whoever is in the rooms is to be asked for. */
  async #begin(json: JsonObject): Promise<boolean> {
    this.outdated.add(this.user);
    const { join } = (json.rooms ?? {}) as {
      join?: Record<string, { state_after: { events: JsonObject[] } }>;
    };
    for (const { state_after: state } of Object.values(join ?? {}))
      for (const { type, state_key: user, content } of state.events)
        if (type === 'm.room.member' && (content as JsonObject).membership === 'join')
          this.outdated.add(String(user));
    return true;
  }

  /** Asks for the keys that it has to ask for. */
  async query(): Promise<void> {
    const wanted = [...this.outdated];
    if (wanted.length === 0) return;
    const { status, json } = await this.ask('POST', '/keys/query', {
      device_keys: Object.fromEntries(wanted.map((user) => [user, []])),
    });
    if (status !== 200) return;
    const failures = (json.failures ?? {}) as JsonObject;
    for (const user of wanted) {
      if (user.slice(user.indexOf(':') + 1) in failures) continue;
      const devices = ((json.device_keys as JsonObject)[user] ?? {}) as Record<string, JsonObject>;
      const master = (json.master_keys as JsonObject | undefined)?.[user] as { keys: JsonObject } | undefined;
      this.known.set(user, {
        devices: new Map(
          Object.entries(devices).map(([id, keys]) => [
            id,
            seen(keys, (keys.unsigned as { device_display_name?: string } | undefined)?.device_display_name),
          ]),
        ),
        master: master && Object.keys(master.keys)[0],
      });
      this.outdated.delete(user);
    }
  }

  /** Sends message `n`. @param to by user and device, or `*` */
  send(n: number, to: readonly (readonly [user: string, device: string])[]): Promise<Answer> {
    const messages: Record<string, Record<string, JsonObject>> = {};
    for (const [user, device] of to) messages[user] = { ...messages[user], [device]: { n } };
    return this.ask('PUT', `/sendToDevice/${MESSAGE_TYPE}/m${n}`, { messages });
  }
}

const seen = ({ keys }: JsonObject, name: string | undefined): string => JSON.stringify([keys, name ?? null]);
