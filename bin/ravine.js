#!/usr/bin/env node
// Starts src/cli/main.ts on a Node.js that runs TypeScript: this one where it is new enough, else the one that
// npm installed beside us. Plain JavaScript, since it has to run on an old Node.js too.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import module from 'node:module';
import { fileURLToPath } from 'node:url';

const NEEDED_MAJOR = 24;
const main = new URL('../src/cli/main.ts', import.meta.url);

if (Number(process.versions.node.split('.')[0]) >= NEEDED_MAJOR) {
  module.enableCompileCache?.();
  await import(main.href);
} else {
  const node = installedNode();
  if (node === undefined) {
    console.error(
      `ravine needs Node.js ${NEEDED_MAJOR} or newer; this is ${process.version}. Run "npm ci" to install one beside it.`,
    );
    process.exit(1);
  }
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => process.exit(code ?? (signal === null ? 1 : 0)));
}

/** The binary out of the one package of optionalDependencies that fits this platform. */
function installedNode() {
  const modules = fileURLToPath(new URL('../node_modules', import.meta.url));
  const platform = process.platform === 'win32' ? 'win' : process.platform;
  const binary = process.platform === 'win32' ? 'node.exe' : 'node';
  return [`node-${platform}-${process.arch}`, `node-bin-${platform}-${process.arch}`]
    .map((name) => `${modules}/${name}/bin/${binary}`)
    .find(existsSync);
}
