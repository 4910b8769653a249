/** A sentence of a rule, and the test that shows it: its file, and its title or a part of that. */
export interface Shown {
  readonly sentence: string;
  readonly tests: readonly (readonly [file: string, title: string])[];
}

export interface Rule {
  readonly name: string;
  readonly shown: readonly Shown[];
}

const SIMULATION = 'test/pipe/attacked_network.simulation.test.ts';
const EVERY = [SIMULATION, 'keep every invariant'] as const;
const pipe = (file: string, title: string) => [`test/pipe/${file}.test.ts`, title] as const;
const peers = (title: string) => ['test/federation/peers.test.ts', title] as const;
const devices = (title: string) => ['test/server/devices.test.ts', title] as const;

/** The rules of docs/security.md, "The rules, and what shows them": that table has the same rows. */
export const RULES: readonly Rule[] = [
  {
    name: '1. No nonce is used twice',
    shown: [
      {
        sentence: 'numbers are reserved on the disk before they are used',
        tests: [
          pipe('resumption', 'reserves numbers ahead, so that no record waits for the disk'),
          pipe('resumption', 'sends nothing before its salt and its numbers are on the disk'),
        ],
      },
      {
        sentence: 'a start goes on above what was reserved',
        tests: [pipe('resumption', 'goes on where it was told to by what was committed')],
      },
      {
        sentence: 'a new salt goes into the keys at each start, in clear until the peer has it',
        tests: [
          pipe('resumption', 'costs eleven bytes in the first record'),
          pipe('resumption', 'an older salt does not come back'),
        ],
      },
      {
        sentence: 'an old disk or a copied one repeats none, and the peer makes a handshake',
        tests: [
          pipe('resumption', 'an older disk repeats no nonce, and a handshake heals it'),
          pipe('resumption', 'a disk that was copied: both copies go on'),
          EVERY,
        ],
      },
    ],
  },
  {
    name: '2. What is not authenticated changes nothing',
    shown: [
      {
        sentence: 'XX1, XX2, XX3: a forged one first, the genuine one after',
        tests: [
          pipe('endpoint', 'XX1 and XX3: bytes changed, and a whole handshake with an attacker’s key'),
          pipe('endpoint', 'XX2: an attacker who calls himself %s answers before the peer'),
          pipe('devices', 'gets through though a changed copy of each of its handshake messages comes first'),
        ],
      },
      {
        sentence: 'IK1, IK2 and the first record, the same',
        tests: [
          pipe('ik', 'IK1: bytes changed, and an attacker who has a key of his own'),
          pipe('ik', 'IK2: bytes changed, and an attacker who goes on with XX'),
          pipe('ik', 'the first record: bytes changed make nothing of the answer'),
          pipe('early', 'is the genuine one, whatever was forged before it'),
        ],
      },
      {
        sentence: 'records move no address, epoch or window',
        tests: [
          pipe('endpoint', 'records: no changed byte is accepted, moves the address'),
          pipe('key_schedule', 'forgeries of every epoch and salt change nothing'),
          pipe('resumption', 'a salted record with any byte changed is not accepted'),
        ],
      },
      {
        sentence: 'cookies, versions and hints change no timer',
        tests: [
          pipe('cookie', 'forged cookies change no timer'),
          pipe('negotiation', 'forged lists from anywhere make no more than one copy of each version'),
          pipe('endpoint', 'hints are rationed, and forged ones start at most one handshake per timer'),
          EVERY,
        ],
      },
    ],
  },
  {
    name: '3. Effects are exactly once',
    shown: [
      {
        sentence: 'a message has one name through copies, sessions and starts',
        tests: [
          pipe('peer_messages', 'are one message to the receiver, named by the first'),
          pipe('peer_messages', 'go on being copies on a new session'),
          EVERY,
        ],
      },
      {
        sentence: 'an answer reaches the request and the copy that it answers',
        tests: [
          pipe('peer_messages', 'are told apart by their replies'),
          pipe('peer_messages', 'have one short reply each, so that a late one is not taken'),
          EVERY,
        ],
      },
      {
        sentence: 'effect, answer and row are one transaction',
        tests: [
          [
            'test/doors/exactly_once.test.ts',
            'a server that is killed at any transaction of a request makes once',
          ],
          ['test/storage/ledger.test.ts', 'has nothing of what was undone with its transaction'],
        ],
      },
      {
        sentence: 'whose row is gone is answered “outcome unknown” and not run',
        tests: [['test/doors/exactly_once.test.ts', 'of which nothing is known any more is answered']],
      },
    ],
  },
  {
    name: '4. Early data is what may be repeated',
    shown: [
      {
        sentence: 'a generation for each static key; a stale one discards the early data',
        tests: [
          pipe('early', 'with a generation that is not new is discarded'),
          pipe('early', 'is not handed on while its generation is not on the disk'),
        ],
      },
      {
        sentence: 'a repeated IK1 gets the same IK2, and nothing is handed on twice',
        tests: [
          pipe('early', 'is handed on once, however often the IK1 comes'),
          pipe('early', 'comes not again from a repetition, neither later nor after a restart'),
          pipe('ik', 'is answered once more while its answer is kept'),
        ],
      },
      {
        sentence: 'the old session lives until a record confirms the new one',
        tests: [
          pipe('endpoint', 'a renewal keeps the old session until a record has confirmed the new one'),
          pipe('ik', 'held back and delivered when both have gone on changes nothing that is in use'),
        ],
      },
    ],
  },
  {
    name: '5. No amplification',
    shown: [
      {
        sentence: 'first messages are padded to a third of the longest answer',
        tests: [
          pipe('endpoint', 'costs 20 bytes a record, and nobody gets more than three times what they sent'),
          pipe('ik', 'is long enough that the answer is no amplification'),
        ],
      },
      {
        sentence: 'an answer goes out when it is asked for, and by no timer',
        tests: [['test/rules/amplification.test.ts', 'gets XX2 in answer to a copy of XX1 only']],
      },
      {
        sentence: 'an address that is not proved gets three times what came from it',
        tests: [
          pipe('path', 'gets three times what came from it at most while it is not proved'),
          ['test/rules/amplification.test.ts', 'gets three times what came from it at the most'],
          ['test/rules/amplification.test.ts', 'is asked at once whether the peer is there'],
          EVERY,
        ],
      },
      {
        sentence: 'under load there are cookies first; work and airtime are bounded',
        tests: [
          pipe('cookie', 'goes before an address'),
          pipe('cookie', 'a cookie that was made up gets nothing'),
          pipe('allowance', 'is so many a second, of which strangers leave half to known peers'),
          pipe('allowance', 'is a share of the airtime where the rate is known'),
        ],
      },
    ],
  },
  {
    name: '6. Identity',
    shown: [
      {
        sentence: 'a signature binds name, key id, Noise key and serial',
        tests: [pipe('record', 'the binding covers name, key id, Noise key and serial')],
      },
      {
        sentence: '`verified` fails closed, `pinned` takes one fingerprint, `tofu` the first',
        tests: [
          peers('fails closed where the key API says something else or nothing'),
          peers('is pinned by the configuration first'),
          peers('accepts the first key, lets the key ring use it, and refuses another one'),
        ],
      },
      {
        sentence: 'another Noise key with a higher serial is a rotation; another signing key is stopped',
        tests: [
          peers('may change under the same signing key with a higher serial only'),
          peers('is stopped loudly, with both fingerprints, and waits for the operator'),
        ],
      },
      {
        sentence: 'a peer speaks for its own name only',
        tests: [
          ['test/doors/proved_server.test.ts', 'is that server, whatever its body says'],
          ['test/doors/proved_server.test.ts', 'is not another by a signed header'],
          EVERY,
        ],
      },
      {
        sentence: 'a client sends nothing secret before the server is trusted',
        tests: [
          pipe('devices', 'sends nothing of its own, and does not show its key, before it trusts the server'),
          devices('a server that is not the pinned one gets no byte of the password'),
        ],
      },
    ],
  },
  {
    name: '7. Everything has a bound',
    shown: [
      {
        sentence: 'sessions, half-open handshakes, queues, undecided identities, held records',
        tests: [
          pipe('allowance', 'push out those of the address that has the most'),
          pipe('send_queue', 'drops the youngest of the least urgent when it is full'),
          pipe(
            'endpoint',
            'nothing is delivered or sent before the decision; what came before it is held within its bound',
          ),
          pipe('devices', 'push out each other, and neither a session with a server nor its handshake'),
          EVERY,
        ],
      },
    ],
  },
  {
    name: '8. Malformed input is a value',
    shown: [
      {
        sentence: 'a datagram of any bytes changes nothing and stops nothing',
        tests: [
          ['test/pipe/any_bytes.ts', ' random and mutated datagrams'],
          pipe('record', 'any bytes are a record or a problem'),
        ],
      },
      {
        sentence: 'so does anything behind a tag that is right',
        tests: [
          ['test/rules/malformed.test.ts', ' records is read or refused, and the session goes on'],
          ['test/rules/malformed.test.ts', ' handshakes of each kind is refused or understood'],
        ],
      },
    ],
  },
  {
    name: '9. Negotiation',
    shown: [
      {
        sentence: 'versions: the best that both have, and no way back by an attacker',
        tests: [
          pipe('negotiation', 'a newer initiator is told what there is, and both talk in that'),
          pipe('negotiation', 'a rollback by a forged answer fails'),
          pipe('negotiation', 'a rollback by an attacker who hides what was refused fails as well'),
        ],
      },
      {
        sentence: 'an older peer (its codec is frozen) and a newer one, in both roles',
        tests: [
          pipe('agreement', 'as initiator: XX and IK are as they were, and nothing is agreed'),
          pipe('agreement', 'as responder: XX and IK are as they were for it, and nothing is agreed'),
          pipe('agreement', 'as initiator: what is known is agreed'),
          pipe('agreement', 'as responder: what is known is agreed'),
        ],
      },
      {
        sentence: 'what is agreed is authenticated, and kept',
        tests: [
          pipe('agreement', 'are not rolled back by somebody who takes the proposal out of XX1'),
          pipe('agreement', 'keep what they have agreed through IK'),
        ],
      },
    ],
  },
  {
    name: '10. Secrets',
    shown: [
      {
        sentence: 'none is compressed together with what somebody else may choose',
        tests: [
          ['test/exchange/codecs.test.ts', 'keeps a token out of everything that is compressed'],
          ['test/exchange/agreed_form.test.ts', 'a login in the plain form is not compressed either'],
        ],
      },
      {
        sentence:
          "what is learnt from a room's messages is used in that room and direction only, and both ends have learnt the same whatever the network does",
        tests: [
          ['test/exchange/histories.test.ts', 'are never mixed up, %s'],
          ['test/exchange/coders.test.ts', 'a conversation is learnt from, and each room by itself'],
          [
            'test/exchange/coders.test.ts',
            'nothing is lost or done twice where a tenth of everything is lost',
          ],
        ],
      },
      {
        sentence: 'after the login the session is the credential; logout and deletion end it',
        tests: [
          devices('after the login the session is the credential'),
          devices('a logout is answered, the next request is refused, and the session ends'),
          devices('the deletion of a device by another ends its session at once'),
          pipe('devices', 'is who it was: an IK1 of the device is not read any more'),
        ],
      },
    ],
  },
];
