/**
 * Settles in the next turn of the event loop, when whatever has arrived meanwhile has been read: what a database
 * awaits before it commits, so that requests which come together share one sync of the disk.
 */
export const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
