import { Command } from 'commander';
import { systemClock } from '../../base/time.ts';
import { publicKeyOf } from '../../crypto/ed25519.ts';
import { fingerprint } from '../../federation/peers.ts';
import { type Config, readConfig } from '../../server/config.ts';
import { currentKey } from '../../storage/own_keys.ts';
import { withServerData } from '../data.ts';
import { printJson } from '../output.ts';
import { askKeyApi } from '../verify.ts';
import { checkAuthorities, checkCertificates } from './certificates.ts';
import { error, type Finding, fine, messageOf } from './finding.ts';
import { checkDatabase, checkFolder, checkLinks, checkName, checkPermissions } from './here.ts';
import { checkClients, checkClock, checkRunning, checkServers } from './outside.ts';
import { openOutside } from './reach.ts';

interface Options {
  readonly config?: string;
  readonly json?: true;
  readonly offline?: true;
  readonly clock: string;
}

/** Whose clock is asked where none is named. */
const CLOCK = 'https://matrix.org/_matrix/client/versions';

const HELP = `
Looks at the configuration, the server name, the data folder and its disk, the database, certificates, permissions and links; then
at what runs on this machine; then, unless --offline says no, from the network: whether clients find the server by
/.well-known/matrix/client, whether other servers find it by its name (8448, or where /.well-known/matrix/server says) and
meet its signing key, and whether the clock is right (by the time that ${new URL(CLOCK).host}, or another server
with --clock, tells). It is best run while the server runs. Nothing is changed.

What this machine reaches by the server's public name goes through its own network: a firewall in front of it may still
keep others out.

Exit status: 0 where there is no error, 1 where there is one. Warnings do not count.

Examples:
  ravine doctor --config /etc/ravine/ravine.yaml
  ravine doctor --offline
  ravine doctor --json | jq '.[] | select(.state != "ok")'
  ravine doctor --clock https://example.org/`;

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('Whether all is well with this server, and what to do where it is not.')
    .option('-c, --config <file>', 'configuration in YAML, as for "ravine serve"')
    .option('--offline', 'ask nobody outside of this machine')
    .option('--clock <url>', 'whose clock to compare with', CLOCK)
    .option('--json', 'print JSON')
    .addHelpText('after', HELP)
    .action(doctor);
}

async function doctor(options: Options): Promise<void> {
  const findings = await examine(options);
  if (findings.some(({ state }) => state === 'error')) process.exitCode = 1;
  if (options.json) return printJson(findings);
  console.log(findings.map(textOf).join('\n'));
  const count = (state: Finding['state']): number => findings.filter((one) => one.state === state).length;
  console.log(`\nErrors: ${count('error')}, warnings: ${count('warning')}, without fault: ${count('ok')}.`);
}

const STATE_TEXT: Readonly<Record<Finding['state'], string>> = {
  ok: 'ok      ',
  warning: 'WARNING ',
  error: 'ERROR   ',
};

const textOf = ({ check, state, says, todo }: Finding): string =>
  `${STATE_TEXT[state]}  ${check}: ${says}${todo === undefined ? '' : `\n${' '.repeat(10)}-> ${todo}`}`;

async function examine({ config: file, offline, clock }: Options): Promise<Finding[]> {
  let config: Config;
  try {
    config = readConfig(file);
  } catch (thrown) {
    return [error('configuration', messageOf(thrown), 'config/ravine.example.yaml has every key.')];
  }
  const authorities = checkAuthorities(config);
  if (authorities.length > 0) return authorities;
  const here = [
    fine('configuration', file ?? 'the defaults'),
    checkName(config),
    ...checkFolder(config),
    ...(await checkDatabase(config)),
    ...checkPermissions(config, file),
    ...checkCertificates(config, systemClock.wall()),
    ...checkLinks(config),
  ];
  const outside = openOutside(config, () => ownKeys(file));
  try {
    const running = await checkRunning(config, outside);
    if (offline) return [...here, ...running];
    const found = await Promise.all([
      checkClients(config, outside),
      federation(file, outside),
      checkClock(clock, outside),
    ]);
    return [...here, ...running, ...found.flat()];
  } finally {
    await outside.close();
  }
}

/** The fingerprints of the keys in use that a server finds that looks for this one's name. */
const ownKeys = (file: string | undefined): Promise<readonly string[]> =>
  withServerData(file, async (data) => {
    const keys = await askKeyApi(data, data.serverName);
    return keys.filter(({ retired }) => !retired).map(({ fingerprint: found }) => found);
  });

async function federation(
  file: string | undefined,
  outside: Parameters<typeof checkServers>[1],
): Promise<Finding[]> {
  try {
    const own = await withServerData(file, ({ database, sealing }) =>
      currentKey(database, sealing, 'signing'),
    );
    if (own === undefined) return [];
    return [await checkServers(fingerprint(publicKeyOf(own.secret)), outside)];
  } catch (thrown) {
    return [error('federation', messageOf(thrown), 'Start the server once.')];
  }
}
