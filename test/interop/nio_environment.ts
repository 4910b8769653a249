import { join } from 'node:path';
import { PythonEnvironment } from './python_environment.ts';

/** matrix-nio with its end-to-end encryption. */
export const nioEnvironment = new PythonEnvironment(
  'matrix-nio-0.26.0-e2e',
  join(import.meta.dirname, 'nio_requirements.txt'),
);
