import { Command } from 'commander';
import { systemClock } from '../base/time.ts';
import { readConfig } from '../server/config.ts';
import { openServer, type RunningServer } from '../server/open.ts';
import { sealKeyOf } from '../server/sealing.ts';
import { CaptureFile } from './capture.ts';
import { KeyLogFile } from './key_log.ts';

interface Options {
  readonly config?: string;
  readonly capture?: string;
  readonly keylog?: string;
}

export function serveCommand(): Command {
  return new Command('serve')
    .description('Runs the homeserver until it is told to stop (SIGINT or SIGTERM).')
    .option('-c, --config <file>', 'configuration in YAML; every key is in config/ravine.example.yaml')
    .option('--capture <file>', 'write every datagram to a new pcapng file, for "ravine decode" or Wireshark')
    .option('--keylog <file>', 'write the keys of records to a new file, for "ravine decode --keylog"')
    .addHelpText(
      'after',
      `
Without a configuration: server name "localhost", data in ./data, HTTP on 127.0.0.1:8008, CoAP and pipes on UDP
127.0.0.1:5683. Nobody can register; "ravine user add NAME" makes accounts, beside the running server too. SIGHUP reads the TLS certificates again.

With --keylog what crosses in pipes is secret no more from whoever gets hold of the file and a capture. It is refused where
secret keys are sealed in the database: they would lie open beside it.

RAVINE_SEAL_KEY or RAVINE_SEAL_KEY_FILE in the environment seals secret keys in the database: see "ravine keys --help".

Examples:
  ravine serve
  ravine serve --config /etc/ravine/ravine.yaml
  ravine serve --capture ravine.pcapng
  ravine serve --capture ravine.pcapng --keylog ravine.keys`,
    )
    .action(serve);
}

async function serve({ config: file, capture: captureTo, keylog: logTo }: Options): Promise<void> {
  const config = readConfig(file);
  const sealKey = sealKeyOf(process.env);
  if (logTo !== undefined && sealKey !== undefined)
    throw new Error('--keylog would lay open what RAVINE_SEAL_KEY seals: start without one of them.');
  const capture = captureTo === undefined ? undefined : openCapture(captureTo);
  const keyLog = logTo === undefined ? undefined : openKeyLog(logTo, config.server_name);
  const server = await openServer(config, undefined, {
    sealKey,
    observer: capture?.observe,
    keyLog,
  });
  if (capture !== undefined) capture.ownAddress = server.udp ?? '';
  // Before anybody is told that it runs, and may tell it to stop.
  const stop = (): void => {
    // A second signal does not wait.
    process.once('SIGINT', () => process.exit(1));
    void server.stop().then(() => {
      capture?.close();
      keyLog?.close();
      process.exit(0);
    });
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  process.on('SIGHUP', () => {
    try {
      server.reloadCertificates();
      console.log('The certificates were read again.');
    } catch (error) {
      console.error(
        `The certificates stay as they were: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  });

  const { homeserver, http, udp } = server;
  const lines = [
    `Ravine serves ${homeserver.serverName}.`,
    ...http.map(({ host, port, tls }) => `  ${tls ? 'https' : 'http'}://${host}:${port}`),
    ...(udp === undefined ? [] : [`  CoAP and pipes on UDP ${udp}`]),
    ...(config.coap.enabled ? config.coap.serial : []).map(
      ({ name, path, baud }) => `  serial line ${name}: ${path} at ${baud} baud`,
    ),
    `  data in ${config.data}`,
    `  signing key fingerprint, for others to pin: ${homeserver.fingerprint}`,
  ];
  if (config.registration.mode === 'token') lines.push(...(await introduction(server)));
  if (config.registration.mode === 'closed')
    lines.push('  nobody can register here: "ravine user add NAME" makes an account');
  console.log(lines.join('\n'));
  await server.ready.catch(async (error: unknown) => {
    await server.stop();
    throw error;
  });
}

function openCapture(file: string): CaptureFile {
  const capture = new CaptureFile(file, systemClock, (reason) =>
    console.error(`Nothing more is written to ${file}: ${reason}.`),
  );
  console.error(
    `WARNING: every datagram is written to ${file}: who speaks with whom and when, and what crosses outside of pipes, access
tokens among it. Delete it when it has served its purpose.`,
  );
  return capture;
}

function openKeyLog(file: string, serverName: string): KeyLogFile {
  const log = new KeyLogFile(file, serverName, (reason) =>
    console.error(`Nothing more is written to ${file}: ${reason}.`),
  );
  console.error(
    `WARNING: the keys of all pipes are written to ${file}: whoever has it and has captured datagrams reads what they say.
Delete it when it has served its purpose.`,
  );
  return log;
}

/** At the first start, what a new operator does next. The token is shown here and nowhere else; only its hash is kept. */
async function introduction({ homeserver, http }: RunningServer): Promise<string[]> {
  const token = await homeserver.accounts.registration.issueFirstToken();
  if (token === undefined) return [];
  const [first] = http;
  const url =
    first === undefined ? 'the server' : `${first.tls ? 'https' : 'http'}://${first.host}:${first.port}`;
  return [
    '',
    `Registration token, printed once: ${token}`,
    '',
    'Next:',
    `  1. Point a Matrix client (Element: "Sign in", "Edit" the homeserver) at ${url} and create an account with the token.`,
    '  2. Copy config/ravine.example.yaml to ravine.yaml to choose a server name, which can never change, and who may connect.',
    '  3. See what a slow link does: npx ravine demo',
  ];
}
