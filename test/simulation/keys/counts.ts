export const noCounts = () => ({
  ...{ logins: 0, logouts: 0, renames: 0, uploads: 0, signings: 0, joins: 0, leaves: 0 },
  ...{ claims: 0, remoteClaims: 0, lostClaims: 0, fallbacks: 0, exhausted: 0 },
  ...{ sent: 0, toAll: 0, received: 0, lostAnswers: 0 },
  ...{ lostDatagrams: 0, partitions: 0, restarts: 0, kills: 0, fetchedLists: 0 },
});
/** What has happened, over all seeds. */
export type KeyCounts = ReturnType<typeof noCounts>;
