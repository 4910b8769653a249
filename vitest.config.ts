import { defineConfig } from 'vitest/config';

/**
 * Three suites. `unit` needs Node and npm only and takes some minutes; `interop` talks to real peers in
 * other languages or real clients; `simulation` runs many seeds over emulated links in virtual time.
 */
export default defineConfig({
  test: {
    silent: 'passed-only',
    // By default one core is left idle, which on a machine with two is half of them.
    maxWorkers: '100%',
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/interop/**', 'test/simulation/**', 'test/**/*.simulation.test.ts'],
          // Some start a dozen processes, and machines may be busy.
          testTimeout: 120_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'interop',
          include: ['test/interop/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'simulation',
          include: ['test/simulation/**/*.test.ts', 'test/**/*.simulation.test.ts'],
          testTimeout: 900_000,
        },
      },
    ],
  },
});
