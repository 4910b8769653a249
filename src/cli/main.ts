import { Command } from 'commander';
import { VERSION } from '../server/version.ts';
import { demoCommand } from './demo.ts';
import { keysCommand } from './keys.ts';
import { linkCommand } from './link.ts';
import { peersCommand } from './peers.ts';
import { serveCommand } from './serve.ts';

const program = new Command('ravine')
  .description('A lightweight Matrix homeserver that fits through 100 bits a second.')
  .version(VERSION)
  .showHelpAfterError()
  .addCommand(serveCommand())
  .addCommand(demoCommand())
  .addCommand(linkCommand())
  .addCommand(peersCommand())
  .addCommand(keysCommand())
  .addHelpText(
    'after',
    `
Examples:
  ravine serve                          start with the defaults, data in ./data
  ravine serve --config ravine.yaml     start as the file says
  ravine demo                           two servers, a 100 bit/s link, one message
  ravine peers                          the servers behind pipes, and their keys
  ravine keys                           this server's fingerprint, for others to compare`,
  );

try {
  await program.parseAsync();
} catch (error) {
  console.error(`ravine: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
