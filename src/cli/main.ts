import { Command } from 'commander';
import { VERSION } from '../server/version.ts';

/** Each is loaded where it is asked for: a small command does not wait for the parts of a large one. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  serve: async () => (await import('./serve.ts')).serveCommand(),
  demo: async () => (await import('./demo.ts')).demoCommand(),
  link: async () => (await import('./link.ts')).linkCommand(),
  peers: async () => (await import('./peers.ts')).peersCommand(),
  user: async () => (await import('./user.ts')).userCommand(),
  token: async () => (await import('./token.ts')).tokenCommand(),
  reports: async () => (await import('./reports.ts')).reportsCommand(),
  doctor: async () => (await import('./doctor/command.ts')).doctorCommand(),
  room: async () => (await import('./room.ts')).roomCommand(),
  media: async () => (await import('./media.ts')).mediaCommand(),
  keys: async () => (await import('./keys.ts')).keysCommand(),
  backup: async () => (await import('./backup.ts')).backupCommand(),
  coap: async () => (await import('./coap/command.ts')).coapCommand(),
  decode: async () => (await import('./decode/command.ts')).decodeCommand(),
  bench: async () => (await import('./bench/command.ts')).benchCommand(),
};

const program = new Command('ravine')
  .description('A lightweight Matrix homeserver that fits through 100 bits a second.')
  .version(VERSION)
  .showHelpAfterError()
  .addHelpText(
    'after',
    `
Examples:
  ravine serve                          start with the defaults, data in ./data
  ravine serve --config ravine.yaml     start as the file says
  ravine demo                           two servers, a 100 bit/s link, one message
  ravine user add alice                 an account; asks for its password
  ravine token create --uses 1          lets somebody make one account
  ravine reports                        what users find wrong with content
  ravine doctor                         whether all is well with this server
  ravine peers                          the servers behind pipes, and their keys
  ravine keys                           this server's fingerprint, for others to compare
  ravine room                           the rooms, their state, graphs and history
  ravine media                          users' files, and copies of other servers'
  ravine backup copy.db                 a copy of the data, while the server runs
  ravine coap discover coap://localhost what a CoAP server has
  ravine decode --file some.pcapng      what is in each datagram
  ravine bench wire                     what a message costs on the wire`,
  );

const asked = process.argv[2] ?? '';
const needed = Object.hasOwn(COMMANDS, asked) ? [COMMANDS[asked]!] : Object.values(COMMANDS);
for (const load of needed) program.addCommand(await load());

try {
  await program.parseAsync();
} catch (error) {
  console.error(`ravine: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
