/* signal.pml: the signal word, generation << 32 | count, over a change of the slot's owner.
 *
 * Modelled: two signallers send M signals each to the node that they find LIVE in the slot. A signal is: load the word; other
 * generation: -ESRCH; CAS count + 1, saturating at MAX; full fence (on x86 the CAS is one); ring the inbox by the
 * rule of doorbell.pml. A signaller may be stopped for ever before each step. The owner takes the count by
 * CAS to (own generation, 0) and sleeps: ASLEEP with a new epoch, fence, look at the word again, FUTEX_WAIT. It may be killed once
 * at any step; then the slot is freed, the word becomes (generation + 1, 0), and only then the new owner is LIVE.
 * A straggler of the first generation may do its CAS and its ring at any time later.
 *
 * Property: what a generation takes was accepted for it; -ESRCH only if the target is gone; and when nothing can move
 * any more, no signal is left for the owner but those of signallers stopped before their own ring.
 *
 * pan: -DNOREDUCE -DVECTORSZ=2048
 * holds: -DM=2
 * fails: -DADD
 * fails: -DMAX=1 -DCARRY
 * fails: -DMAX=1 -DWRAP
 * fails: -DSTORE_TAKE
 * fails: -DNORELOOK
 * fails: -DNO_FENCE
 * fails: -DLIVE_FIRST
 *
 * ADD the count is added to whatever stands there; CARRY, WRAP it does not saturate; STORE_TAKE the owner takes by a store;
 * NORELOOK no look after ASLEEP; NO_FENCE the bell may be looked at before the count is seen; LIVE_FIRST LIVE before the
 * word has its new generation.
 */
#ifndef M
#define M 2
#endif
#ifndef MAX
#define MAX 3                      /* the largest count */
#endif
#define OLD 2
byte gen = 1, cnt;                             /* the signal word */
byte live = 1;                                 /* generation that is LIVE in the slot, 0: none */
byte ep = OLD; bool asleep, woken, waiting, bclr, bset;
byte last[2], we[2];
byte accepted[3], taken[3], stuck[3];          /* ghosts, per generation */
bool sat;

active proctype flush()
{
end:	do
	:: atomic { bclr -> bclr = 0; asleep = 0; woken = 0 }
	:: atomic { !bclr && bset -> bset = 0; ep = 0; asleep = 1; woken = 0 }
	od
}

#define STOP	:: atomic { stuck[t] = stuck[t] + did; goto out }
#define LOOKBELL atomic { ww = woken; go = 0; \
	if :: asleep && ep != last[s] -> last[s] = ep; we[s] = ep; go = 1 :: else fi }
#ifdef ADD
#define SAMEWORD true
#else
#define SAMEWORD (gen == t && cnt == c)
#endif
#define COUNT if \
	:: cnt == MAX -> OVER \
	:: else -> cnt++; did = 1; accepted[t]++ fi
#ifdef CARRY
#define OVER cnt = 0; gen++; did = 1; accepted[t]++
#elif defined(WRAP)
#define OVER cnt = 0; did = 1; accepted[t]++
#else
#define OVER sat = 1; did = 1
#endif

proctype signaller(byte s)
{ byte n, t, c; bool did, ww, go, early;
	do
	:: n < M ->
		if :: atomic { live != 0 -> t = live; n++; did = 0 } STOP :: n++; goto next fi;
load:		if
		:: atomic { gen != t -> assert(live != t); t = 0; goto next }   /* -ESRCH */
		:: atomic { gen == t -> c = cnt }
		STOP fi;
#ifdef NO_FENCE
		if :: LOOKBELL; early = 1 :: early = 0 fi;                      /* passes the store half of the CAS */
#endif
		if
		:: atomic { SAMEWORD -> COUNT }
		:: atomic { !SAMEWORD -> c = 0; goto load }
		STOP fi;
		if :: atomic { !early -> LOOKBELL } :: early STOP fi;
		if
		:: go && !ww ->
			if :: atomic { if
				:: ep == we[s] && asleep && !woken -> woken = 1
				:: ep == we[s] && asleep && woken
				:: else -> go = 0 fi }
			STOP fi
		:: else
		fi;
		if :: go -> if :: waiting = 0 STOP fi :: else fi;
next:		atomic { we[s] = OLD; go = 0; ww = 0; did = 0; t = 0; c = 0; early = 0 }
	:: else -> break
	od;
out:	atomic { we[s] = OLD; last[s] = OLD; go = 0; ww = 0; did = 0; t = 0; c = 0; n = 0; early = 0 }
}

#define DIES :: atomic { g == 1 -> goto dies }
#define AGE(x) x = (x == 0 -> 1 : OLD)

active proctype owner()
{ byte g, c;
	atomic { g = 1; last[0] = OLD; last[1] = OLD; we[0] = OLD; we[1] = OLD; run signaller(0); run signaller(1) }
take:	if
	:: atomic { cnt == 0 || gen != g ->                     /* nothing: go to sleep */
		AGE(ep); AGE(last[0]); AGE(last[1]); AGE(we[0]); AGE(we[1]); bset = 1; goto relook }
	:: atomic { cnt != 0 && gen == g -> c = cnt }
	DIES fi;
	if
#ifdef STORE_TAKE
	:: atomic { cnt = 0; gen = g; taken[g] = taken[g] + c; assert(taken[g] <= accepted[g]); c = 0; goto take }
#else
	:: atomic { gen == g && cnt == c -> cnt = 0; taken[g] = taken[g] + c;
		assert(taken[g] <= accepted[g]); c = 0; goto take }
	:: atomic { !(gen == g && cnt == c) -> c = 0; goto take }
#endif
	DIES fi;
relook:
#ifndef NORELOOK
	if
	:: atomic { !bclr && !bset && cnt != 0 && gen == g -> bclr = 1; goto take }
	:: atomic { !bclr && !bset && !(cnt != 0 && gen == g) }
	DIES fi;
#endif
	if :: atomic { !bclr && !bset -> if :: asleep && !woken -> waiting = 1 :: else fi } DIES fi;
	if
	:: atomic { !waiting -> bclr = 1; goto again }
	:: timeout -> goto quiet
	DIES fi;
again:	atomic { !bclr -> goto take };
dies:	atomic { !bclr && !bset -> waiting = 0; c = 0; live = 0 };     /* reaped */
#ifdef LIVE_FIRST
	live = 2;
	atomic { gen = 2; cnt = 0 };
#else
	atomic { gen = 2; cnt = 0 };                                   /* granted */
	live = 2;
#endif
	atomic { g = 2; asleep = 0; woken = 0; goto take };            /* keeps the epoch */
quiet:	atomic { assert(gen == g); assert(cnt <= stuck[g]); assert(sat || taken[g] + cnt == accepted[g]) }
}
