import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { sleep, systemClock } from '../../src/base/time.ts';
import { type Output, outputOf } from '../e2e/output.ts';
import { freePort } from '../free_port.ts';

/**
 * A shell that runs a command for as long as its own standard input is open: also where this process is killed, no peer
 * stays behind. An interrupt lets them say goodbye.
 */
const LEASH = `exec 3<&0
"$@" </dev/null 3<&- &
child=$!
{ cat <&3 >/dev/null; kill -INT "$child" 2>/dev/null; } &
exec 3<&-
wait "$child"`;

/** A peer in a process of its own. */
export class PeerProcess {
  readonly output: Output;
  readonly child: ChildProcess;
  readonly #ended: Promise<void>;

  private constructor(child: ChildProcess) {
    this.child = child;
    this.output = outputOf(child);
    this.#ended = new Promise((resolve) => {
      child.once('error', () => resolve());
      child.once('exit', () => resolve());
    });
    // Whoever still writes to it finds out by what it does not answer.
    child.stdin?.on('error', () => undefined);
  }

  /** A program that ends when its standard input does. */
  static start(command: string, ...args: string[]): PeerProcess {
    return new PeerProcess(spawn(command, args, { stdio: 'pipe' }));
  }

  /** A program that takes no notice of its standard input. */
  static onLeash(command: string, ...args: string[]): PeerProcess {
    return PeerProcess.start('sh', '-c', LEASH, 'sh', command, ...args);
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  async stop(): Promise<void> {
    this.child.stdin?.end();
    await this.#ended;
  }
}

const PORT_TRIES = 5;
const START_MS = 10_000;
const ANSWER_MS = 2_000;
const RETRY_MS = 20;

/** Starts a server that has to be told its port, on one that is free, and waits until it answers a ping. */
export async function startServer(
  start: (port: number) => PeerProcess,
): Promise<{ readonly process: PeerProcess; readonly port: number }> {
  for (let tries = 0; tries < PORT_TRIES; tries++) {
    const port = await freePort('udp');
    const process = start(port);
    if ((await answersPing(port, () => process.running)) && process.running) return { process, port };
    const said = process.output.text();
    await process.stop();
    // Somebody else was faster to take the port, or it does not run at all.
    if (tries === PORT_TRIES - 1) throw new Error(`the peer does not start: ${said}`);
  }
  throw new Error('no port is free');
}

/**
 * Sends a ping, again where nobody listens yet: a CoAP server answers an empty message (RFC 7252, section 4.3). It gets
 * one only, so that what it sends after that can be counted.
 */
async function answersPing(port: number, running: () => boolean): Promise<boolean> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.connect(port, '127.0.0.1', () => resolve()));
  let settle: (answered: boolean) => void = () => undefined;
  socket.on('message', () => settle(true)).on('error', () => settle(false));
  const deadline = systemClock.monotonic() + START_MS;
  let answered = false;
  while (!answered && running() && systemClock.monotonic() < deadline) {
    answered = await new Promise<boolean>((resolve) => {
      const giveUp = systemClock.after(ANSWER_MS, () => resolve(false));
      settle = (outcome) => {
        giveUp();
        resolve(outcome);
      };
      socket.send(Uint8Array.of(0x40, 0, 0, 1));
    });
    if (!answered) await sleep(systemClock, RETRY_MS);
  }
  await new Promise<void>((resolve) => socket.close(() => resolve()));
  return answered;
}
