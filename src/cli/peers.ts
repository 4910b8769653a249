import { Command } from 'commander';
import { systemRandom } from '../base/random.ts';
import type { Result } from '../base/result.ts';
import { systemClock } from '../base/time.ts';
import { fingerprintGroups, fingerprintWords } from '../federation/fingerprints.ts';
import { PeerDirectory, type PeerState, type PeerSummary } from '../federation/peer_directory.ts';
import { parseServerName, type ServerName } from '../matrix/ids.ts';
import { peerEntry } from '../server/homeserver.ts';
import { rotateNoiseKey } from '../server/identity.ts';
import type { WaitingKey } from '../storage/peer_trust.ts';
import { cancelRotation } from './cancel_rotation.ts';
import { dataCommandsWithJson, type ServerData, withServerData } from './data.ts';
import { groupLines, jsonTime, printJson, textFields, textTable, textTime, wordLines } from './output.ts';
import { askKeyApi, type KeyApiFinding } from './verify.ts';

interface Options {
  readonly config?: string;
  readonly json?: true;
}

const STATE_TEXT: Readonly<Record<PeerState, string>> = {
  waiting: 'NEW SIGNING KEY WAITS',
  mismatch: 'KEY IS NOT THE PINNED ONE',
  session: 'session kept',
  known: 'known',
  unseen: 'not seen yet',
};

/** Digits of a fingerprint in the table: enough to tell keys apart, not to compare them. */
const SHORT_DIGITS = 16;

const AT_ONCE =
  'A server that runs goes by it within seconds: of a peer with another key it ends the session as soon as that says something.';

const EXAMPLES = `
Who the servers are that this one talks to through pipes, and which signing key each of them has to have. NAME is a
server name such as ship.example.org. All of it works on a server that is stopped and on one that runs.

A fingerprint is the SHA-256 of a signing key. Compare it with the other operator by a way that nobody else controls:
by telephone the 16 words are enough, in writing the 64 digits. What "ravine keys" shows there has to be what
"ravine peers show" shows here.

LAST SEEN is when something came from it last, to the hour.

What decides about a server's key, the first that applies: a fingerprint in the configuration; one that "pin" or
"accept" has named; else the configuration's "verified" or "tofu". Under "verified" a new key is taken once the key API
confirms it; everywhere else it waits until "accept" or "pin".

Exit status: 0 where it was done or found, 1 where not.

Examples:
  ravine peers                                       the list
  ravine peers --config /etc/ravine/ravine.yaml --json
  ravine peers show ship.example.org                 fingerprint in words and digits, and what waits
  ravine peers verify ship.example.org               what the key API says of it over HTTPS
  ravine peers pin ship.example.org 5f2e 91c0 ...    take this key and no other
  ravine peers accept ship.example.org               take the new signing key that waits
  ravine peers forget ship.example.org               as if it had never come
  ravine peers rotate                                a new Noise key for this server`;

export function peersCommand(): Command {
  const command = new Command('peers')
    .description(
      'The servers behind pipes: who they are, which keys they have, and what you decide about them.',
    )
    .addHelpText('after', EXAMPLES);
  const add = dataCommandsWithJson(command);
  add('list', 'all of them, in a table', true).action(list);
  add('show <name>', 'one of them, with its fingerprint in words and digits').action(show);
  add('verify <name>', 'ask its key API over HTTPS, and compare; changes nothing').action(verify);
  add('pin <name> <fingerprint...>', 'take the key with this fingerprint and no other').action(pin);
  add('accept <name> [fingerprint...]', 'take a new signing key that waits').action(accept);
  add('forget <name>', 'remove its keys, its pin and its sessions').action(forget);
  add('rotate', "make a new Noise key for this server's pipes, from the next start on")
    .option('--cancel', 'keep the key that is in use after all')
    .action(rotate);
  return command;
}

const withDirectory = <T>(
  { config }: Options,
  use: (directory: PeerDirectory, data: ServerData) => Promise<T>,
): Promise<T> =>
  withServerData(config, (data) => {
    const { federation } = data.config;
    const directory = new PeerDirectory({
      serverName: data.serverName,
      peers: federation.peers.map(peerEntry),
      defaultTrust: federation.trust,
      database: data.database,
      clock: systemClock,
    });
    return use(directory, data);
  });

/** @throws Error with the problem as its sentence */
function succeeded<T>(result: Result<T>): T {
  if (!result.ok) throw new Error(result.problem);
  return result.value;
}

function nameOf(text: string): ServerName {
  const name = parseServerName(text);
  if (!name.ok) throw new Error(`"${text}" is not a server name: ${name.problem}.`);
  return name.value;
}

async function list(options: Options): Promise<void> {
  const peers = await withDirectory(options, (directory) => directory.list());
  if (options.json) return printJson(peers.map(toJson));
  if (peers.length === 0)
    return console.log('No server behind a pipe: the configuration names none, and none has come.');
  const heading = ['NAME', 'ADDRESS', 'TRUST', 'FINGERPRINT', 'FIRST SEEN (UTC)', 'LAST SEEN (UTC)', 'STATE'];
  console.log(textTable([heading, ...peers.map(rowOf)]));
  const waiting = peers.filter(({ state }) => state === 'waiting');
  if (waiting.length > 0) {
    console.log(`
Somebody who calls himself ${waiting.map(({ serverName }) => serverName).join(', ')} came with a signing key that is not the known one. It is that server's
new key, or somebody else. "ravine peers show NAME" has the fingerprints to compare.`);
  }
}

function rowOf(peer: PeerSummary): string[] {
  const { serverName, address, lastAddress, trust, accepted, pinned, state } = peer;
  const fingerprint = accepted?.fingerprint ?? pinned;
  return [
    serverName,
    address ?? lastAddress ?? '-',
    trust,
    fingerprint === undefined ? '-' : fingerprintGroups(fingerprint.slice(0, SHORT_DIGITS)),
    accepted === undefined ? '-' : textTime(accepted.firstSeen),
    accepted === undefined ? '-' : textTime(accepted.lastSeen),
    STATE_TEXT[state],
  ];
}

async function show(text: string, options: Options): Promise<void> {
  const name = nameOf(text);
  const peer = succeeded(await withDirectory(options, (directory) => directory.find(name)));
  if (options.json) return printJson(toJson(peer));
  const { accepted, pinned } = peer;
  const fields: [string, string][] = [
    ['name', peer.serverName],
    ['state', STATE_TEXT[peer.state]],
    ['address', peer.address ?? '-'],
    ...(peer.lastAddress === undefined ? [] : [['last at', peer.lastAddress] as [string, string]]),
    ['trust', `${peer.trust} (${peer.trustSource})`],
    ['sessions', String(peer.sessions)],
  ];
  if (accepted !== undefined) {
    fields.push(
      ['first seen', `${textTime(accepted.firstSeen)} UTC`],
      ['last seen', `${textTime(accepted.lastSeen)} UTC`],
      ['accepted as', accepted.trust],
      ['Noise serial', String(accepted.serial)],
    );
  }
  console.log(textFields(fields));
  if (accepted !== undefined) printKey(`signing key ${accepted.keyId}`, accepted.fingerprint);
  if (pinned !== undefined && pinned !== accepted?.fingerprint) printKey('pinned, and not seen yet', pinned);
  for (const key of peer.waiting) {
    printKey(
      `WAITS: signing key ${key.signingKeyId}, ${textTime(key.firstSeen)} to ${textTime(key.lastSeen)} UTC\n${key.reason}`,
      key.fingerprint,
    );
  }
  if (peer.waiting.length > 0) {
    console.log(
      `\nCompare with the operator of ${name}; then: ravine peers accept ${name} <fingerprint>\nIf nobody there has a new key, somebody else has tried to be ${name}, and nothing has to be done.`,
    );
  }
}

function printKey(title: string, fingerprint: string): void {
  console.log(`\n${title}`);
  console.log(
    textFields([
      ['  words', wordLines(fingerprint)],
      ['  digits', groupLines(fingerprint)],
    ]),
  );
}

async function pin(text: string, given: readonly string[], options: Options): Promise<void> {
  const name = nameOf(text);
  const pinned = await withDirectory(options, (directory) => directory.pin(name, given.join(' ')));
  printPinned(name, succeeded(pinned), options);
}

async function accept(text: string, given: readonly string[], options: Options): Promise<void> {
  const name = nameOf(text);
  const fingerprint = given.length === 0 ? undefined : given.join(' ');
  const accepted = await withDirectory(options, (directory) => directory.accept(name, fingerprint));
  printPinned(name, succeeded(accepted), options);
}

function printPinned(name: ServerName, fingerprint: string, { json }: Options): void {
  if (json) {
    printJson({ name, pinned: keyJson(fingerprint) });
    return;
  }
  console.log(`${name} has to have this signing key from now on:`);
  console.log(
    textFields([
      ['  words', wordLines(fingerprint)],
      ['  digits', groupLines(fingerprint)],
    ]),
  );
  console.log(AT_ONCE);
}

async function forget(text: string, options: Options): Promise<void> {
  const name = nameOf(text);
  const { sessions } = succeeded(await withDirectory(options, (directory) => directory.forget(name)));
  if (options.json) return printJson({ name, sessions });
  const kept = sessions === 0 ? '' : sessions === 1 ? ', its session' : `, its ${sessions} sessions`;
  console.log(`${name} is forgotten: its key${kept}, and what you had pinned.`);
  console.log('A server that runs ends a session that it has as soon as something comes on it.');
}

async function verify(text: string, options: Options): Promise<void> {
  const name = nameOf(text);
  const { finding, peer } = await withDirectory(options, async (directory, data) => {
    const found = await directory.find(name);
    return { finding: await askKeyApi(data, name), peer: found.ok ? found.value : undefined };
  });
  const verdicts = verdictsOf(peer, finding);
  const confirmed = verdicts.length > 0 && verdicts[0]!.says === 'confirmed';
  if (!confirmed) process.exitCode = 1;
  if (options.json) return printJson({ name, confirmed, compared: verdicts, keys: finding.map(findingJson) });
  console.log(`The key API of ${name} answers over HTTPS, with ${finding.length} signing keys:`);
  for (const { keyId, fingerprint, retired, validUntil } of finding)
    printKey(
      `${keyId}, ${retired ? 'no longer in use since' : 'valid until'} ${textTime(validUntil)} UTC`,
      fingerprint,
    );
  console.log('');
  if (verdicts.length === 0) console.log('Nothing is known here to compare it with.');
  for (const { what, fingerprint, says } of verdicts) {
    const groups = fingerprintGroups(fingerprint.slice(0, SHORT_DIGITS));
    console.log(`${what}, ${groups} ...: ${SAYS_TEXT[says]}`);
  }
}

const SAYS_TEXT = {
  confirmed: 'CONFIRMED, it is in use there.',
  retired: 'NOT CONFIRMED, it is no longer in use there.',
  unknown: 'NOT CONFIRMED, that server does not have it.',
} as const;

interface KeyVerdict {
  readonly what: string;
  readonly fingerprint: string;
  readonly says: keyof typeof SAYS_TEXT;
}

/** What the key API says of the keys that are known here; the one that a pipe would be trusted for comes first. */
function verdictsOf(peer: PeerSummary | undefined, found: readonly KeyApiFinding[]): KeyVerdict[] {
  if (peer === undefined) return [];
  const { pinned, accepted, waiting } = peer;
  const keys = [
    ...(pinned === undefined ? [] : [{ what: 'The pinned key', fingerprint: pinned }]),
    ...(accepted === undefined || accepted.fingerprint === pinned
      ? []
      : [{ what: 'The accepted key', fingerprint: accepted.fingerprint }]),
    ...waiting.map(({ fingerprint }) => ({ what: 'A key that waits', fingerprint })),
  ];
  return keys.map((key) => {
    const same = found.filter(({ fingerprint }) => fingerprint === key.fingerprint);
    const says = same.some(({ retired }) => !retired) ? 'confirmed' : same.length > 0 ? 'retired' : 'unknown';
    return { ...key, says };
  });
}

async function rotate(options: Options & { readonly cancel?: true }): Promise<void> {
  await withServerData(options.config, async ({ database, sealing }) => {
    if (options.cancel) return cancelRotation(database, 'noise', options.json === true);
    const serial = await database.transaction((tx) =>
      rotateNoiseKey(tx, sealing, systemRandom, systemClock.wall()),
    );
    if (options.json) return printJson({ serial, effective: 'next start' });
    console.log(
      `A new Noise key is made, serial ${serial}. It is used from the next start on; the old one is erased then, and with it
the sessions that are kept: each peer costs one handshake, and takes the new key because your signing key vouches for it.`,
    );
  });
}

const keyJson = (fingerprint: string) => ({ fingerprint, words: fingerprintWords(fingerprint).join(' ') });

const waitingJson = ({ signingKeyId, fingerprint, reason, firstSeen, lastSeen }: WaitingKey) => ({
  key_id: signingKeyId,
  ...keyJson(fingerprint),
  reason,
  first_seen: jsonTime(firstSeen),
  last_seen: jsonTime(lastSeen),
});

const findingJson = ({ keyId, fingerprint, retired, validUntil }: KeyApiFinding) => ({
  key_id: keyId,
  ...keyJson(fingerprint),
  retired,
  valid_until: jsonTime(validUntil),
});

function toJson(peer: PeerSummary) {
  const { accepted, pinned } = peer;
  return {
    name: peer.serverName,
    state: peer.state,
    address: peer.address ?? null,
    last_address: peer.lastAddress ?? null,
    trust: peer.trust,
    trust_source: peer.trustSource,
    pinned: pinned === undefined ? null : keyJson(pinned),
    accepted:
      accepted === undefined
        ? null
        : {
            key_id: accepted.keyId,
            ...keyJson(accepted.fingerprint),
            trust: accepted.trust,
            serial: accepted.serial,
            first_seen: jsonTime(accepted.firstSeen),
            last_seen: jsonTime(accepted.lastSeen),
          },
    sessions: peer.sessions,
    waiting: peer.waiting.map(waitingJson),
  };
}
