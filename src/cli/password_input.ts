import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';

/** Of what comes on standard input, in characters: longer than any password that is taken. */
const MAX_LENGTH = 4_096;

/**
 * A password from the person at the terminal, typed twice and not shown, or the first line of standard input where that is
 * none. Never from the command line, which everybody on the machine can read.
 * @throws where there is none, or the two are not the same
 */
export async function readPassword(who: string): Promise<string> {
  if (!process.stdin.isTTY) return firstLine();
  const hidden = new Writable({ write: (_chunk, _encoding, done) => done() });
  const terminal = createInterface({ input: process.stdin, output: hidden, terminal: true });
  const ask = async (prompt: string): Promise<string> => {
    process.stderr.write(prompt);
    const answer = await terminal.question('');
    process.stderr.write('\n');
    return answer;
  };
  try {
    const password = await ask(`Password of ${who}: `);
    if ((await ask('The same again: ')) !== password) throw new Error('The two are not the same.');
    return password;
  } finally {
    terminal.close();
  }
}

async function firstLine(): Promise<string> {
  let text = '';
  process.stdin.setEncoding('utf8');
  for await (const chunk of process.stdin) {
    text += chunk;
    if (text.includes('\n') || text.length > MAX_LENGTH) break;
  }
  const [line = ''] = text.split(/\r?\n/, 1);
  if (line === '') throw new Error('There is no password on standard input.');
  return line;
}
