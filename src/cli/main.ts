import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { demoCommand } from './demo.ts';
import { serveCommand } from './serve.ts';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const program = new Command('ravine')
  .description('A lightweight Matrix homeserver that fits through 100 bits a second.')
  .version(version)
  .showHelpAfterError()
  .addCommand(serveCommand())
  .addCommand(demoCommand())
  .addHelpText(
    'after',
    `
Examples:
  ravine serve                          start with the defaults, data in ./data
  ravine serve --config ravine.yaml     start as the file says
  ravine demo                           two servers, a 100 bit/s link, one message`,
  );

try {
  await program.parseAsync();
} catch (error) {
  console.error(`ravine: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
