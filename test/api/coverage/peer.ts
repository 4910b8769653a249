import type { Random } from '../../../src/base/random.ts';
import type { Clock } from '../../../src/base/time.ts';
import type { ExchangeRequest } from '../../../src/exchange/request.ts';
import { type ExchangeResponse, errorResponse } from '../../../src/exchange/response.ts';
import { ExchangeSocket } from '../../../src/exchange/socket.ts';
import { KEY_PATH, ownKeyDocument } from '../../../src/federation/key_document.ts';
import { authorizationHeader } from '../../../src/federation/x_matrix.ts';
import type { Link } from '../../../src/link/link.ts';
import { notFound } from '../../../src/matrix/error.ts';
import type { KeyId, ServerName } from '../../../src/matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../../src/matrix/json.ts';
import type { UnsignedPdu } from '../../../src/matrix/pdu.ts';
import { roomVersion } from '../../../src/matrix/room_version.ts';
import { type SigningKey, signEvent, signingKey } from '../../../src/matrix/signing.ts';
import { createIdentity } from '../../../src/pipe/identity.ts';

const MEDIA_PATH = '/_matrix/federation/v1/media/';

export const PEER = 'away.example' as ServerName;
const KEY_ID = 'ed25519:1' as KeyId;

/** Another server, as far as it asks and signs: it has no rooms, and takes whatever it is sent. */
export class Peer {
  readonly socket: ExchangeSocket;
  /** What it answers to requests for files, by path without the query. */
  readonly files = new Map<string, ExchangeResponse>();
  readonly #key: SigningKey;
  readonly #clock: Clock;

  constructor({ link, clock, random }: { link: Link; clock: Clock; random: Random }) {
    const signingSecret = random.bytes(32);
    this.#key = signingKey(KEY_ID, signingSecret);
    this.#clock = clock;
    this.socket = new ExchangeSocket({
      ...{ link, clock, random },
      identity: createIdentity({
        ...{ serverName: PEER, signingKeyId: KEY_ID, signingSecret, serial: 1 },
        noiseSecret: random.bytes(32),
      }),
      trust: { decide: async () => ({ trusted: true }) },
      plain: 'off',
    });
    this.socket.onRequest(async (_caller, request) => this.#answer(request));
  }

  /** The header Authorization of a request to `destination`. */
  authorization(
    destination: ServerName,
    method: string,
    uri: string,
    content: JsonValue | undefined,
  ): string {
    return authorizationHeader({ origin: PEER, destination, method, uri, content }, this.#key);
  }

  /** An event of a user of this server, out of a template. */
  sign(template: JsonObject, version: string): { readonly id: string; readonly pdu: JsonObject } {
    const unsigned = { ...template, origin_server_ts: this.#clock.wall() } as unknown as UnsignedPdu;
    const event = signEvent(unsigned, roomVersion(version)!, PEER, this.#key);
    return { id: event.id, pdu: event.pdu as unknown as JsonObject };
  }

  #answer({ path }: ExchangeRequest): ExchangeResponse {
    const file = this.files.get(path);
    if (file !== undefined) return file;
    if (path.startsWith(MEDIA_PATH)) return errorResponse(notFound('There is no such file'));
    const document = path === KEY_PATH ? ownKeyDocument(PEER, this.#key, this.#clock.wall()) : { pdus: {} };
    return { status: 200, headers: {}, body: { kind: 'json', value: document } };
  }
}
