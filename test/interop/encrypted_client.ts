import {
  createClient,
  EventStatus,
  type LoginResponse,
  type MatrixClient,
  type MatrixEvent,
  MatrixEventEvent,
  Method,
  MsgType,
  RoomEvent,
} from 'matrix-js-sdk';
import {
  type CryptoApi,
  CryptoEvent,
  type GeneratedSecretStorageKey,
  type KeyBackupInfo,
  type ShowSasCallbacks,
  VerificationPhase,
  type VerificationRequest,
  VerificationRequestEvent,
  type Verifier,
  VerifierEvent,
} from 'matrix-js-sdk/lib/crypto-api/index.js';
import { type Complaints, logIn, PASSWORD } from './js_sdk_client.ts';

const SENDING_TRIES = 5;

/** A device with the library's end-to-end encryption, its keys in memory. */
export class EncryptedClient {
  readonly client: MatrixClient;
  /** What its owner types in where the library asks for it. */
  recoveryKey: GeneratedSecretStorageKey | undefined;
  /** What could not be read when it came, and why, by event id; what is read later is taken out again. */
  readonly undecryptable = new Map<string, string>();

  private constructor(baseUrl: string, login: LoginResponse, { logger }: Complaints) {
    this.client = createClient({
      ...{
        baseUrl,
        logger,
        userId: login.user_id,
        accessToken: login.access_token,
        deviceId: login.device_id,
      },
      cryptoCallbacks: {
        getSecretStorageKey: async ({ keys }) =>
          this.recoveryKey === undefined ? null : [Object.keys(keys)[0]!, this.recoveryKey.privateKey],
      },
    });
    this.client.on(MatrixEventEvent.Decrypted, (event, error) => {
      const id = event.getId()!;
      if (error === undefined) this.undecryptable.delete(id);
      else this.undecryptable.set(id, String(event.decryptionFailureReason));
    });
  }

  /** Logs in on a new device. The client does not sync yet. */
  static async login(baseUrl: string, username: string, complaints: Complaints): Promise<EncryptedClient> {
    const device = new EncryptedClient(baseUrl, await logIn(baseUrl, username, complaints), complaints);
    await device.client.initRustCrypto({ useIndexedDB: false });
    return device;
  }

  get id(): string {
    return this.client.getUserId()!;
  }

  get localpart(): string {
    return this.client.getUserIdLocalpart()!;
  }

  get device(): string {
    return this.client.getDeviceId()!;
  }

  get crypto(): CryptoApi {
    return this.client.getCrypto()!;
  }

  /** Makes the user's signing keys. @returns how often the password was asked for */
  async makeSigningKeys(): Promise<number> {
    let asked = 0;
    await this.crypto.bootstrapCrossSigning({
      setupNewCrossSigning: true,
      authUploadDeviceSigningKeys: async (upload) => {
        try {
          await upload(null);
        } catch (error) {
          const { session } = (error as { data: { session?: string } }).data;
          if (session === undefined) throw error;
          asked++;
          const identifier = { type: 'm.id.user', user: this.id };
          await upload({ type: 'm.login.password', identifier, password: PASSWORD, session });
        }
      },
    });
    return asked;
  }

  /** Whether this device takes another user for who they say they are. */
  async trusts(other: EncryptedClient): Promise<boolean> {
    return (await this.crypto.getUserVerificationStatus(other.id)).isCrossSigningVerified();
  }

  /** Whether this device knows that another one was signed by its owner. */
  async knowsSigned({ id, device }: EncryptedClient): Promise<boolean> {
    return (await this.crypto.getDeviceVerificationStatus(id, device))?.signedByOwner ?? false;
  }

  /** Whether the server has each key of a room that this device has. What the library says of the backup may be old. */
  async hasBackedUp(): Promise<boolean> {
    const { count } = await this.client.http.authedRequest<KeyBackupInfo>(Method.Get, '/room_keys/version');
    return count === (await this.crypto.exportRoomKeys()).length;
  }

  /** The devices of a user for whom it encrypts. */
  async devicesOf(user: string): Promise<string[]> {
    const devices = await this.crypto.getUserDeviceInfo([user]);
    return [...(devices.get(user)?.keys() ?? [])].sort();
  }

  /**
   * Sends a message, again under the same transaction id where that fails.
   * @param mended resolves when it may succeed again
   * @returns the event's id
   */
  async say(
    room: string,
    body: string,
    mended: () => Promise<unknown> = async () => undefined,
  ): Promise<string> {
    let echo: MatrixEvent | undefined;
    const keep = (event: MatrixEvent): void => {
      if (event.getContent().body === body) echo = event;
    };
    this.client.on(RoomEvent.LocalEchoUpdated, keep);
    const send = (): Promise<{ event_id: string }> =>
      echo?.status === EventStatus.NOT_SENT
        ? this.client.resendEvent(echo, this.client.getRoom(room)!)
        : this.client.sendMessage(room, { msgtype: MsgType.Text, body });
    try {
      for (let tries = 1; ; tries++) {
        try {
          return (await send()).event_id;
        } catch (error) {
          if (tries === SENDING_TRIES) throw error;
          await mended();
        }
      }
    } finally {
      this.client.off(RoomEvent.LocalEchoUpdated, keep);
    }
  }

  /** The next request to compare emojis that comes in. */
  asked(): Promise<VerificationRequest> {
    return new Promise((resolve) => this.client.once(CryptoEvent.VerificationRequestReceived, resolve));
  }

  stop(): void {
    this.client.stopClient();
  }
}

/**
 * Two devices go through a verification, and both persons find that their emojis are the same. What comes of that each
 * device tells by whom it trusts, a little later.
 * @returns the emojis
 */
export async function compareEmojis(
  mine: VerificationRequest,
  theirs: VerificationRequest,
): Promise<string[]> {
  await theirs.accept();
  await reaches(mine, VerificationPhase.Ready);
  const verifier = await mine.startVerification('m.sas.v1');
  await reaches(theirs, VerificationPhase.Started);
  const sides = [verifier, theirs.verifier!];
  const shown = sides.map(shownBy);
  const failure = new Promise<never>((_, reject) => {
    for (const side of sides) side.verify().catch(reject);
  });
  const callbacks = await Promise.race([Promise.all(shown), failure]);
  const [one, other] = callbacks.map(({ sas }) => sas.emoji!.map(([emoji]) => emoji));
  if (JSON.stringify(one) !== JSON.stringify(other)) throw new Error(`${one} is not ${other}`);
  await Promise.race([Promise.all(callbacks.map((side) => side.confirm())), failure]);
  return one!;
}

const shownBy = (verifier: Verifier): Promise<ShowSasCallbacks> =>
  new Promise((resolve, reject) => {
    verifier.once(VerifierEvent.ShowSas, resolve);
    verifier.once(VerifierEvent.Cancel, () => reject(new Error('the verification was cancelled')));
  });

const reaches = (request: VerificationRequest, phase: VerificationPhase): Promise<void> =>
  new Promise((resolve, reject) => {
    const look = (): void => {
      if (request.phase < phase) return;
      request.off(VerificationRequestEvent.Change, look);
      if (request.phase === phase) resolve();
      else reject(new Error(`the verification was cancelled: ${request.cancellationCode}`));
    };
    request.on(VerificationRequestEvent.Change, look);
    look();
  });
