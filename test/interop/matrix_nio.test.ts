import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { outputOf } from '../e2e/output.ts';
import { nioEnvironment } from './nio_environment.ts';
import { TwoServers } from './two_servers.ts';

const HERE = import.meta.dirname;
const missing = await nioEnvironment.install();

/* What is said is in nio_conversation.py. */
test.skipIf(missing !== undefined)(
  `two users of matrix-nio talk over two servers, and it complains of nothing (skipped where it cannot be installed: ${missing ?? 'it is'})`,
  async () => {
    const servers = await TwoServers.open('pipe');
    onTestFinished(() => servers.close());
    const conversation = join(HERE, 'nio_conversation.py');
    const child = spawn(nioEnvironment.python, [
      conversation,
      servers.url('alpha.test'),
      servers.url('bravo.test'),
    ]);
    onTestFinished(() => void child.kill());
    const output = outputOf(child);
    const status = await new Promise((done) => child.once('close', done));
    expect(output.text()).toBe('');
    expect(status).toBe(0);
    expect(servers.asked('alpha.test').pipe).toBeGreaterThan(0);
  },
);
