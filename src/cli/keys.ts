import { Command } from 'commander';
import { fromBase64 } from '../base/bytes.ts';
import { systemRandom } from '../base/random.ts';
import { systemClock } from '../base/time.ts';
import { publicKeyOf } from '../crypto/ed25519.ts';
import { fingerprintWords } from '../federation/fingerprints.ts';
import { MAX_KEY_VALIDITY_MS } from '../federation/key_document.ts';
import { fingerprint } from '../federation/peers.ts';
import { rotateSigningKey } from '../server/identity.ts';
import { createSealing, readSealKey, SEAL_KEY, SEAL_KEY_FILE } from '../server/sealing.ts';
import { currentKey, nextKey, retiredKeys } from '../storage/own_keys.ts';
import { changeSealing } from '../storage/sealed_database.ts';
import { IN_CLEAR, type Sealing } from '../storage/sealing.ts';
import { cancelRotation } from './cancel_rotation.ts';
import { dataCommandsWithJson, withServerData } from './data.ts';
import { groupLines, jsonTime, printJson, textFields, textTime, wordLines } from './output.ts';

interface Options {
  readonly config?: string;
  readonly json?: true;
}

const DAY_MS = 24 * 60 * 60 * 1000;

const EXAMPLES = `
The signing key is who this server is: it signs every event and request, and vouches for the Noise key of its pipes.
Others compare its fingerprint: by telephone the 16 words, in writing the 64 digits. Secret keys are never printed.

Secret keys, and those of the pipe's sessions, can be sealed in the database by a key of 32 bytes that the environment gives
to "ravine serve" and to the commands: ${SEAL_KEY}, in hexadecimal or base64, or ${SEAL_KEY_FILE}, a file with it
that its owner alone may use. The first start that is given one seals what is there. Keep the key elsewhere as well: without
it this server cannot be itself again. "seal" and "unseal" are for a server that is stopped.

Examples:
  ravine keys                                        this server's fingerprint, for others to compare or pin
  ravine keys --config /etc/ravine/ravine.yaml --json
  ravine keys rotate                                 a new signing key from the next start on
  ravine keys rotate --cancel                        keep the old one after all
  (umask 077; openssl rand -base64 32 > seal.key)    a new key to seal with
  ravine keys seal seal.key                          seal under it, in the place of another key where there is one
  ${SEAL_KEY_FILE}=seal.key ravine serve
  ${SEAL_KEY_FILE}=seal.key ravine keys unseal   keep secrets as they are again`;

const AFTER_ROTATION = `It is used from the next start on. The old one is published as no longer in use then, so that events stay valid,
and its secret is erased; the sessions that are kept go with it.

Servers that verify by the key API follow by themselves. Those that have pinned this server, or took its first key
("tofu"), will not let it in until their operators have said "ravine peers accept": tell them the new words now.`;

export function keysCommand(): Command {
  const command = new Command('keys')
    .description("This server's signing key: its fingerprint, how long it holds, and a new one.")
    .addHelpText('after', EXAMPLES);
  const add = dataCommandsWithJson(command);
  add('show', 'key id, fingerprint and validity', true).action(show);
  add('rotate', 'make a new signing key, for the next start')
    .option('--cancel', 'keep the key that is in use after all')
    .action(rotate);
  add('seal <file>', 'seal secrets in the database by the key in a file, or by that one from now on').action(
    seal,
  );
  add('unseal', 'keep secrets in the database as they are again').action(unseal);
  return command;
}

/** Of a secret key what others may know. */
const publicOf = ({ keyId, secret, created }: { keyId: string; secret: Uint8Array; created: number }) => ({
  keyId,
  fingerprint: fingerprint(publicKeyOf(secret)),
  created,
});

async function show(options: Options): Promise<void> {
  const known = await withServerData(options.config, async ({ serverName, database, sealing }) => {
    const signing = await currentKey(database, sealing, 'signing');
    const noise = await currentKey(database, sealing, 'noise');
    if (signing === undefined || noise === undefined)
      throw new Error('The server has not been started yet: "ravine serve" does.');
    const next = await nextKey(database, sealing, 'signing');
    return {
      serverName,
      sealed: sealing !== IN_CLEAR,
      signing: publicOf(signing),
      next: next && publicOf(next),
      noiseSerial: noise.keyId,
      nextNoiseSerial: (await nextKey(database, sealing, 'noise'))?.keyId,
      retired: (await retiredKeys(database)).map(({ keyId, publicKey, expired }) => ({
        keyId,
        fingerprint: fingerprint(fromBase64(publicKey) ?? new Uint8Array()),
        expired,
      })),
    };
  });
  if (options.json) return printJson(toJson(known));
  const { serverName, signing, next, retired } = known;
  const days = MAX_KEY_VALIDITY_MS / DAY_MS;
  const fields: [string, string][] = [
    ['server', serverName],
    ['signing key', `${signing.keyId}, in use since ${textTime(signing.created)} UTC`],
    ['validity', `no end is set; others ask again ${days} days after each answer`],
    ['words', wordLines(signing.fingerprint)],
    ['digits', groupLines(signing.fingerprint)],
    ['Noise serial', known.noiseSerial],
    ['at rest', known.sealed ? 'sealed' : 'in clear, readable by the owner of the file only'],
  ];
  if (known.nextNoiseSerial !== undefined)
    fields.push(['', `from the next start on: ${known.nextNoiseSerial}`]);
  if (next !== undefined) {
    fields.push(
      ['NEXT KEY', `${next.keyId}, from the next start on`],
      ['  words', wordLines(next.fingerprint)],
      ['  digits', groupLines(next.fingerprint)],
    );
  }
  for (const { keyId, expired } of retired)
    fields.push(['retired', `${keyId}, not in use since ${textTime(expired)} UTC`]);
  console.log(textFields(fields));
}

async function rotate(options: Options & { readonly cancel?: true }): Promise<void> {
  await withServerData(options.config, async ({ database, sealing }) => {
    if (options.cancel) return cancelRotation(database, 'signing', options.json === true);
    const key = await database.transaction((tx) =>
      rotateSigningKey(tx, sealing, systemRandom, systemClock.wall()),
    );
    const next = publicOf(key);
    if (options.json) return printJson({ next: keyJson(next), effective: 'next start' });
    console.log(`A new signing key is made, ${next.keyId}:`);
    console.log(
      textFields([
        ['  words', wordLines(next.fingerprint)],
        ['  digits', groupLines(next.fingerprint)],
      ]),
    );
    console.log(AFTER_ROTATION);
  });
}

async function seal(file: string, options: Options): Promise<void> {
  const next = createSealing(readSealKey(file), systemRandom);
  const wasSealed = await sealAs(options, () => next);
  if (options.json) return printJson({ sealed: true });
  console.log(
    `The secrets in the database are sealed by the key in ${file}${wasSealed ? ', and no longer by the one before' : ''}.
Give it to the server from now on, as ${SEAL_KEY} or ${SEAL_KEY_FILE}: without it the server does not start.`,
  );
}

async function unseal(options: Options): Promise<void> {
  await sealAs(options, (before) => {
    if (before === IN_CLEAR) throw new Error('The secrets in the database are not sealed.');
    return IN_CLEAR;
  });
  if (options.json) return printJson({ sealed: false });
  console.log(
    `The secrets in the database are in clear again. Take ${SEAL_KEY} and ${SEAL_KEY_FILE} out of the environment of the
server: given a key, it seals them at the next start.`,
  );
}

/** Seals in another way. Returns whether the secrets were sealed before. */
async function sealAs({ config }: Options, next: (before: Sealing) => Sealing): Promise<boolean> {
  // Closed before it is changed, since nobody else may have it open then.
  const { path, sealing } = await withServerData(config, async (data) => data);
  changeSealing(path, sealing, next(sealing));
  return sealing !== IN_CLEAR;
}

const keyJson = ({ keyId, fingerprint }: { readonly keyId: string; readonly fingerprint: string }) => ({
  key_id: keyId,
  fingerprint,
  words: fingerprintWords(fingerprint).join(' '),
});

function toJson({
  serverName,
  sealed,
  signing,
  next,
  noiseSerial,
  nextNoiseSerial,
  retired,
}: {
  readonly serverName: string;
  readonly sealed: boolean;
  readonly signing: ReturnType<typeof publicOf>;
  readonly next: ReturnType<typeof publicOf> | undefined;
  readonly noiseSerial: string;
  readonly nextNoiseSerial: string | undefined;
  readonly retired: readonly {
    readonly keyId: string;
    readonly fingerprint: string;
    readonly expired: number;
  }[];
}) {
  return {
    name: serverName,
    signing: { ...keyJson(signing), created: jsonTime(signing.created), validity_ms: MAX_KEY_VALIDITY_MS },
    next: next === undefined ? null : keyJson(next),
    noise: {
      serial: Number(noiseSerial),
      next_serial: nextNoiseSerial === undefined ? null : Number(nextNoiseSerial),
    },
    sealed,
    retired: retired.map((key) => ({ ...keyJson(key), expired: jsonTime(key.expired) })),
  };
}
