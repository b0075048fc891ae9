/* notice.pml: the notice of a death, derived from a control epoch; reapers stopped or killed anywhere.
 *
 * Modelled: peer P (generation 1) publishes NM messages into the ring to R and rings (FENCED); it is killed at some step.
 * Two reapers learn of the death. Each: mark the death, bump the control epoch, full fence, ring R by the rule of
 * doorbell.pml, then free the slot under the control lock. Reaper 0 may be stopped for ever or killed before each step;
 * reaper 1 goes on. Once the slot is free a new owner N (generation 2) may come and goes on at the old tail with one message.
 * R: reads the control epoch, then the slot; if P is gone: drains the ring, then gives the notice; sleeps:
 * ASLEEP with a new epoch, fence, looks at ring and control epoch again, FUTEX_WAIT. x86-TSO buffers for P, R and
 * the plain stores of reapers.
 *
 * As the model passes: the mark (slot LIVE -> DEAD by CAS) and the bump are RMWs *outside* the control lock, and each
 * reaper bumps and rings once also when DEAD already stands; R stops draining at a record of a newer generation.
 * LOCKED is a control: mark = free the slot, epoch and ring all under the lock, with an intent that the next holder completes.
 *
 * Property: R gives the notice after all messages of P and before any of N (asserted at once); when nothing can move
 * any more: all messages were received and, if P died, the notice was given.
 *
 * pan: -DNOREDUCE -DVECTORSZ=2048
 * holds: -DNM=1
 * fails: -DNM=1 -DLOCKED
 * fails: -DNM=1 -DDRAIN_ALL
 * fails: -DNM=1 -DRULE_OFF
 * fails: -DNM=1 -DNORELOOK_EPOCH
 * fails: -DNM=1 -DRING_FIRST
 * fails: -DNM=1 -DBUMP_FIRST
 * fails: -DNM=1 -DSLOT_FIRST
 * fails: -DNM=1 -DLOSER_SILENT
 *
 * LOCKED the death is marked and told under the control lock, whose holder may be stopped; DRAIN_ALL, RULE_OFF a record of a
 * newer generation does not make the notice come first, or does not end the draining; NORELOOK_EPOCH no look at the
 * epoch before the sleep; RING_FIRST, BUMP_FIRST the ring or the epoch before the mark; SLOT_FIRST the slot is read before the
 * epoch; LOSER_SILENT who finds DEAD standing tells nobody.
 */
#ifndef NM
#define NM 2
#endif
#define OLD 2
#define LIVE 1
#define DEAD 2
#define FREE 0
mtype = { MARK, BUMP };

byte tail, tag[NM + 2], sbp, sbn, ended;       /* ring P -> R: generations of the records; ended: P is dead */
byte state = LIVE, sgen = 1;                   /* the slot of P, one word */
byte ce;                                       /* the control epoch */
byte lock, intent, settled;                    /* control lock: 0 free, else holder + 1 */
byte ep = OLD; bool asleep, woken, waiting, bclr, bset;
byte last[4], we[4];                           /* wakers: reapers 0 and 1, P, N */
chan q0 = [2] of { mtype }; chan q1 = [2] of { mtype };
byte got1, got2, pubs; bool noticed, joined;

#define OUTQ(q) :: atomic { q ? x -> if :: x == MARK -> state = FREE :: x == BUMP -> ce++ fi; x = 0 }
active proctype flush()
{ mtype x;
end:	do
	:: atomic { sbp > 0 -> tag[tail] = 1; tail++; sbp-- }
	:: atomic { sbn > 0 -> tag[tail] = 2; tail++; sbn-- }
	OUTQ(q0)
	OUTQ(q1)
	:: atomic { bclr -> bclr = 0; asleep = 0; woken = 0 }
	:: atomic { !bclr && bset -> bset = 0; ep = 0; asleep = 1; woken = 0 }
	od
}

#define RING(FENCE, HALT) \
	if :: atomic { FENCE -> ww = woken; go = 0; \
		if :: asleep && ep != last[w] -> last[w] = ep; we[w] = ep; go = 1 :: else fi } HALT fi; \
	if :: go && !ww -> if :: atomic { FENCE -> if \
		:: ep == we[w] && asleep && !woken -> woken = 1 \
		:: ep == we[w] && asleep && woken \
		:: else -> go = 0 fi } HALT fi \
	:: else fi; \
	if :: go -> if :: waiting = 0 HALT fi :: else fi; \
	atomic { we[w] = OLD; go = 0; ww = 0 }

#define KILLED :: atomic { pubs = n; goto out }
active proctype P()
{ byte n, w; bool ww, go;
	w = 2;
	do
	:: n < NM -> if :: atomic { sbp++; n++ } KILLED fi; RING(sbp == 0, KILLED)
	:: atomic { n == NM -> pubs = n; goto lives }
	:: atomic { pubs = n; goto out }
	od;
out:	atomic { sbp == 0 -> ended = 1; we[w] = OLD; last[w] = OLD; n = 0; go = 0; ww = 0 };
lives:	skip
}

active proctype N()
{ byte w; bool ww, go;
	if :: true :: goto empty_slot fi;                   /* perhaps nobody takes the slot */
end:	atomic { state == FREE && lock == 0 && intent == 0 -> state = LIVE; sgen = 2; w = 3; joined = 1 };  /* a grant takes the lock */
	sbn++;
	RING(sbn == 0, );
empty_slot: skip
}

#ifdef NOSTOP
#define FATE	:: atomic { w == 0 -> if :: lock == 1 -> lock = 0 :: else fi; goto gone }
#else
#define FATE	:: atomic { w == 0 -> if :: lock == 1 -> lock = 0 :: else fi; goto gone } \
		:: atomic { w == 0 -> goto gone }
#endif
#ifdef NO_REAPER_FENCE
#define QF true
#else
#define QF empty(q)
#endif
proctype reaper(byte w; chan q)
{ bool ww, go;
end:	(ended);
#ifdef LOCKED
endlock:	/* the next holder completes what stands in the intent record */
	if
	:: atomic { lock == 0 && (intent || (state == LIVE && sgen == 1)) -> lock = w + 1 }
	:: atomic { lock == 0 && !intent && !(state == LIVE && sgen == 1) -> goto gone }
	FATE fi;
#ifndef NO_INTENT
	if :: intent = 1 FATE fi;
#endif
	if :: q ! MARK FATE fi;
	if :: q ! BUMP FATE fi;
	RING(QF, FATE);
	if :: atomic { empty(q) -> intent = 0; lock = 0 } FATE fi;
#else
#ifdef BUMP_FIRST
	if :: ce++ FATE fi;
#endif
#ifdef RING_FIRST
	RING(true, FATE);
#endif
	if
	:: atomic { state == LIVE && sgen == 1 -> state = DEAD }        /* CAS LIVE(1) -> DEAD(1) */
#ifdef LOSER_SILENT
	:: atomic { !(state == LIVE && sgen == 1) -> goto endclean }
#else
	:: atomic { !(state == LIVE && sgen == 1) }
#endif
	FATE fi;
#ifndef BUMP_FIRST
	if :: ce++ FATE fi;                                             /* RMW, outside the lock */
#endif
#ifndef RING_FIRST
	RING(true, FATE);
#endif
endclean: if
	:: atomic { lock == 0 && state == DEAD -> lock = w + 1 }
	:: atomic { state != DEAD -> goto gone }
	FATE fi;
	if :: atomic { state = FREE } FATE fi;
	if :: atomic { lock = 0 } FATE fi;
#endif
gone:	atomic { we[w] = OLD; last[w] = OLD; go = 0; ww = 0 }
}

#define AGE(x) x = (x == 0 -> 1 : OLD)
#define AGEW(w) AGE(last[w]); AGE(we[w])
#define GONE !(state == LIVE && sgen == 1)
#define NOTICE assert(got1 == pubs && sbp == 0); assert(got2 == 0); noticed = 1; due = 0

active proctype R()
{ byte pos, seen, s; bool due, pre;
	atomic { do :: s < 4 -> last[s] = OLD; we[s] = OLD; s++ :: else -> break od; s = 0; run reaper(0, q0); run reaper(1, q1) }
turn:
#ifdef SLOT_FIRST
	pre = GONE;
	atomic { if :: ce != seen -> seen = ce; due = due || (pre && !noticed) :: else fi };
#else
	atomic { s = (ce != seen); seen = ce };
	if
	:: s -> atomic { due = due || (GONE && !noticed); s = 0 }       /* compare the generations */
	:: else
	fi;
#endif
take:	if
	:: atomic { pos < tail && tag[pos] == 1 -> assert(!noticed); got1++; pos++; goto take }
	:: atomic { pos < tail && tag[pos] == 2 ->                      /* a record of a newer generation */
#ifndef RULE_OFF
#ifndef DRAIN_ALL
		if :: !noticed -> assert(GONE); NOTICE :: else fi;
#endif
#endif
#ifdef RULE_OFF
		if :: due -> NOTICE :: else fi;
#endif
		assert(noticed); got2++; pos++; goto take }
	:: atomic { pos == tail -> if :: due -> NOTICE :: else fi }
	fi;
	atomic { !bset -> AGE(ep); AGEW(0); AGEW(1); AGEW(2); AGEW(3); bset = 1 };
	if
	:: atomic { !bclr && !bset && pos != tail -> bclr = 1; goto turn }
	:: atomic { !bclr && !bset && pos == tail }
	fi;
#ifndef NORELOOK_EPOCH
	if
	:: atomic { ce != seen -> bclr = 1; goto turn }
	:: atomic { ce == seen }
	fi;
#endif
	atomic { if :: asleep && !woken -> waiting = 1 :: else fi };
	if
	:: atomic { !waiting -> bclr = 1; goto turn }
	:: timeout
	fi;
	atomic { assert(got1 == pubs); assert(!ended || noticed); assert(!joined || got2 == 1) }
}
