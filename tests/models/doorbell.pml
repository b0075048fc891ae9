/* doorbell.pml: the doorbell word; stopped and killed wakers; slot reuse of the sleeper.
 *
 * Modelled: NS senders, each with a ring into one receiver, publish NM messages each (FENCED mode) and ring the
 * receiver's `inbox`: epoch << 2 | WOKEN | ASLEEP. x86-TSO: `sb[s]` counts publications in the store buffer of
 * sender s; `bclr` and `bset` are the plain stores {e, 0} and {e, ASLEEP} in the store buffer of the receiver; CAS
 * and fence wait for the own buffer, FUTEX_WAKE does not. Each sender may be stopped for ever or killed
 * before each of its steps (NOSTOP, NOKILL leave one out). A reaper rings for the killed; with REAPKILL it may be killed
 * anywhere, once, and its successor knows nothing. With REUSE the receiver is killed once at any step
 * and a new owner of the slot goes on with the word as it stands.
 *
 * Epochs are kept as ages, seen from the epoch of the sleeper: 0 is its own, 1 the one before, OLD anything
 * else or none. So the state space is finite and holds for any number of sleeps, hence across the wrap of the
 * 30 epoch bits in the low half: FUTEX_WAIT asserts that the epoch there is always its own. LOW_MEM gives
 * the low half a single epoch bit and lets senders remember only that.
 *
 * A step is one access to shared memory. Merged: filling a store buffer with the step before it, a fence with the
 * load after it, and the look of an awake receiver at all rings (it has no part in the protocol).
 *
 * Property, checked when nothing can move any more (asleep for ever, no safety wake): received is every message
 * whose sender came past its own wake step, and every message of a killed sender. Checked when a
 * waker decides to wake: it has not woken this epoch before.
 *
 * pan: -DNOREDUCE -DVECTORSZ=2048
 * holds: -DNS=2 -DNM=1 -DREAPKILL
 * holds: -DNS=2 -DNM=2 -DNOKILL
 * holds: -DNS=1 -DNM=2 -DREUSE
 * holds: -DNS=2 -DNM=1 -DREUSE -DNOKILL
 * fails: -DNM=1 -DNOFENCE_S
 * fails: -DNM=1 -DNOFENCE_R
 * fails: -DNM=1 -DWOKEN_SKIP
 * fails: -DNM=1 -DCAS_LOSER
 * fails: -DNM=1 -DNORELOOK
 * fails: -DNM=1 -DWAKE_FIRST
 * fails: -DNM=1 -DREREAD
 * fails: -DNM=2 -DLOW_MEM
 * fails: -DNM=2 -DSAME_EPOCH
 * fails: -DNM=2 -DNO_MEM
 * fails: -DNM=1 -DNO_REAP_RING
 * fails: -DNM=1 -DINIT_SEEN
 * fails: -DNM=1 -DFUTEX_FIRST
 * fails: -DNS=1 -DNM=2 -DREUSE -DNOKILL -DRESET
 *
 * NOFENCE_S, NOFENCE_R no fence of the sender, of the sleeper; WOKEN_SKIP whoever sees WOKEN does not wake; CAS_LOSER nor
 * does whoever loses the CAS to it; NORELOOK no look after ASLEEP; WAKE_FIRST the bell before the message;
 * REREAD the futex expects what stands there; LOW_MEM wakers remember one bit of the epoch; SAME_EPOCH a new sleep in the old
 * epoch; NO_MEM wakers remember nothing; NO_REAP_RING the reaper does not ring; INIT_SEEN a waker begins with the
 * epoch that it sees; FUTEX_FIRST the wake before the mark; RESET a new owner begins with epoch 0.
 */
#ifndef NS
#define NS 2
#endif
#ifndef NM
#define NM 2
#endif
#define OLD 2
#define DONE 1
#define STOPPED 2
#define DEAD 3

byte pub[NS], sb[NS];              /* tails in memory; publications still in the store buffer */
byte ep = OLD; bool asleep, woken; /* the word in memory; ep is an age */
bool bclr, bset;                   /* stores of the word in the receiver's buffer, in this order */
bool waiting;                      /* the receiver is queued in FUTEX_WAIT */
byte last[NS + 1], we[NS + 1];     /* per waker: epoch remembered as woken; epoch being woken (ages) */
byte rung[NS + 1];                 /* ghost: age of the epoch of its last FUTEX_WAKE */
byte got[NS], owed[NS], fate[NS];
bool reaped[NS], rdone;

active proctype flush()            /* store buffers drain at any time */
{
end:	do
	:: atomic { sb[0] > 0 -> pub[0]++; sb[0]-- }
#if NS > 1
	:: atomic { sb[1] > 0 -> pub[1]++; sb[1]-- }
#endif
#if NS > 2
	:: atomic { sb[2] > 0 -> pub[2]++; sb[2]-- }
#endif
	:: atomic { bclr -> bclr = 0; asleep = 0; woken = 0 }
	:: atomic { !bclr && bset -> bset = 0; ep = 0; asleep = 1; woken = 0 }
	od
}

#ifdef NOKILL
#define HALT	:: atomic { fate[s] = STOPPED; goto out }
#elif defined(NOSTOP)
#define HALT	:: atomic { fate[s] = DEAD; goto out }
#else
#define HALT	:: atomic { fate[s] = STOPPED; goto out } \
		:: atomic { fate[s] = DEAD; goto out }
#endif
#define RHALT	:: atomic { lives > 0 -> lives--; goto again }

/* The three steps of a waker `me`: look; mark; wake. Between two of them it may halt (H). */
#define RING(DRAIN, BUFFER, H) \
	if \
	:: atomic { DRAIN -> ww = woken; go = 0; \
		if \
		:: asleep && REMEMBERS -> assert(rung[me] != ep); \
			we[me] = ep; last[me] = ep; go = 1; FORGETS; if :: ww -> STANDS :: else fi \
		:: else \
		fi; EARLY } \
	H fi; \
	if \
	:: go && !ww -> \
		if \
		:: atomic { BUFFER -> if \
			:: ep == we[me] && asleep && !woken -> woken = 1 \
			:: ep == we[me] && asleep && woken -> LOSER \
			:: else -> go = 0 fi } \
		H fi \
	:: else \
	fi; \
	if \
	:: go -> if :: LATE H fi \
	:: else \
	fi; \
	atomic { we[me] = OLD; ww = 0; go = 0 }

#define FUTEX_WAKE atomic { rung[me] = we[me]; waiting = 0 }
#define REMEMBERS ep != last[me]
#ifdef NO_MEM
#define FORGETS last[me] = OLD
#else
#define FORGETS skip
#endif
#ifdef WOKEN_SKIP
#define STANDS go = 0
#else
#define STANDS skip
#endif
#ifdef CAS_LOSER
#define LOSER go = 0
#else
#define LOSER skip
#endif
#ifdef FUTEX_FIRST
#define EARLY if :: go -> waiting = 0 :: else fi
#define LATE skip
#else
#define EARLY skip
#define LATE FUTEX_WAKE
#endif
#ifdef NOFENCE_S
#define FENCED true
#else
#define FENCED (sb[me] == 0)
#endif

proctype sender(byte s)
{ byte n, me; bool ww, go;
	atomic { me = s;
#ifdef INIT_SEEN
	last[me] = ep
#endif
	}
	do
	:: n < NM ->
#ifdef WAKE_FIRST
		RING(true, true, HALT);
		if :: atomic { sb[s]++; n++; owed[s] = n } HALT fi
#else
		if :: atomic { sb[s]++; n++ } HALT fi;   /* publish */
		RING(FENCED, (sb[me] == 0), HALT);       /* one full fence, then look at the word */
		owed[s] = n
#endif
	:: else -> atomic { fate[s] = DONE; break }
	od;
out:	atomic { n = 0; we[me] = OLD; last[me] = OLD; rung[me] = OLD; ww = 0; go = 0 }
}

#define CORPSE(i) (fate[i] == DEAD && sb[i] == 0 && !reaped[i])
active proctype reaper()
{ byte i, me, lives; bool ww, go;
	atomic { me = NS;
#ifdef REAPKILL
	lives = 1;
#endif
	goto end }
again:	atomic { we[me] = OLD; last[me] = OLD; rung[me] = OLD; ww = 0; go = 0 }
end:	do
	:: atomic { CORPSE(0) -> i = 0; goto bell }
#if NS > 1
	:: atomic { CORPSE(1) -> i = 1; goto bell }
#endif
#if NS > 2
	:: atomic { CORPSE(2) -> i = 2; goto bell }
#endif
	od;
bell:
#ifndef NO_REAP_RING
	RING(true, true, RHALT);
#endif
	if :: atomic { reaped[i] = 1; i = 0 } RHALT fi;
	goto end
}

#ifdef LOW_MEM
#define OLDER(x) x = (x == OLD -> OLD : 1 - x)         /* one bit of epoch */
#else
#define OLDER(x) x = (x == 0 -> 1 : OLD)
#endif
#define AGE(w) OLDER(last[w]); we[w] = (we[w] == 0 -> 1 : OLD); rung[w] = (rung[w] == 0 -> 1 : OLD)
#if NS == 1
#define AGES AGE(0); AGE(1)
#elif NS == 2
#define AGES AGE(0); AGE(1); AGE(2)
#else
#define AGES AGE(0); AGE(1); AGE(2); AGE(3)
#endif
#define NEWEPOCH ep = (ep == 0 -> 1 : OLD); AGES
#define LOOK1(i) if :: pub[i] != got[i] -> got[i] = pub[i]; found = 1 :: else fi
#ifdef REUSE
#ifdef RESET
#define DIES	:: atomic { !rdone && first -> goto dies }
#else
#define DIES	:: atomic { !rdone -> goto dies }
#endif
#else
#define DIES
#endif
#ifdef NOFENCE_R
#define RFENCE true
#else
#define RFENCE !bclr && !bset
#endif

active proctype receiver()
{ byte e; bool found, first, reset;
	atomic {
		do :: e < NS + 1 -> last[e] = OLD; we[e] = OLD; rung[e] = OLD; e++ :: else -> break od;
		e = 0;
		run sender(0);
#if NS > 1
		run sender(1);
#endif
#if NS > 2
		run sender(2);
#endif
	}
awake:	if
	:: atomic { !bset; LOOK1(0);
#if NS > 1
		LOOK1(1);
#endif
#if NS > 2
		LOOK1(2);
#endif
		found = 0;
		if :: reset -> reset = 0; ep = 0 :: else -> NEWEPOCH fi;   /* each ASLEEP has a new epoch */
#ifdef RESET
		first = !first && !rdone;
#endif
		bset = 1 }                                                 /* the sleeper stores ASLEEP */
	DIES fi;
#ifdef SAME_EPOCH
same:	skip;
#endif
#ifndef NORELOOK
	if :: atomic { RFENCE -> LOOK1(0) } DIES fi;                       /* fences, looks again */
#if NS > 1
	if :: atomic { RFENCE -> LOOK1(1) } DIES fi;
#endif
#if NS > 2
	if :: atomic { RFENCE -> LOOK1(2) } DIES fi;
#endif
	if
#ifdef SAME_EPOCH
	:: atomic { found -> bclr = 1; found = 0; bset = 1; goto same }
#endif
	:: atomic { found && !bset && !bclr -> bclr = 1; found = 0; goto awake }
	:: atomic { !found }
	fi;
#endif
	if
	:: atomic { !bclr && !bset ->                /* FUTEX_WAIT(low half, expected = {e, ASLEEP}) */
		assert(ep == 0);
		if
#ifdef REREAD
		:: asleep -> waiting = 1
#else
		:: asleep && !woken -> waiting = 1
#endif
		:: else                              /* EAGAIN */
		fi }
	DIES fi;
	if
	:: atomic { !waiting -> bclr = 1; goto awake }
	:: timeout -> goto quiet
	DIES
	fi;
dies:	atomic { !bclr && !bset -> rdone = 1; waiting = 0; found = 0; first = 0;
#ifdef RESET
		reset = 1; woken = 0;                /* and counts its epochs from the start: the same again */
#endif
		asleep = 0; goto awake };            /* the new owner goes on with the epoch */
quiet:	atomic {
		e = 0;
		do
		:: e < NS ->
			assert(got[e] >= owed[e]);   /* else: a lost wake-up */
			assert(fate[e] != DEAD || got[e] == pub[e]);
			e++
		:: else -> break
		od }
}
