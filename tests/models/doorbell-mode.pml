/* doorbell-mode.pml: FENCED and UNFENCED senders, membarrier in the sleeper, pairing at any moment.
 *
 * Modelled: NS senders publish NM messages each to one receiver and ring its `inbox`. Sender s has a mode word; after
 * each emission it may change its mode, in either direction (SWITCH). The last PAIR senders start unpaired
 * and set their bit in the receiver's `paired` words before their first publication, at any moment. The receiver
 * stores ASLEEP, fences, reads `paired` and the modes, calls membarrier if a paired sender is UNFENCED, looks at all
 * paired rings, sleeps. membarrier is not one moment: it makes each sender's buffer empty in turn.
 * Store buffers: FIFO (x86-TSO); with WEAK a store that is no release leaves the buffer in any order, a release
 * store after all before it, and the store half of an RMW may stay in the buffer too while later loads are done (so on
 * aarch64 with acquire-release RMW). Loads of a sender pass its earlier stores in both.
 * Wakers follow the rule of doorbell.pml; stops and deaths are there. Epochs are ages, as there.
 * NOMB: the receiver may not call membarrier (seccomp).
 *
 * Property, checked when nothing can move any more: every message is received.
 *
 * pan: -DNOREDUCE -DVECTORSZ=2048
 * holds: -DSWITCH
 * holds: -DSWITCH -DWEAK -DPAIR=1
 * holds: -DPAIR=1 -DNOMB -DNOMB_RULE
 * fails: -DSWITCH -DNO_MEMBARRIER
 * fails: -DSWITCH -DNO_SLEEPER_FENCE
 * fails: -DSWITCH -DNO_FENCE
 * fails: -DSWITCH -DNO_SWITCH_FENCE
 * fails: -DSWITCH -DLOOK_BEFORE_MODES
 * fails: -DSWITCH -DNORELOOK
 * fails: -DSWITCH -DWEAK -DRELAXED_FENCED
 * fails: -DSWITCH -DRELAXED_MODE_READ
 * fails: -DPAIR=1 -DPAIRED_EARLY
 * fails: -DPAIR=1 -DPAIR_AFTER
 * fails: -DPAIR=1 -DCLEAR
 * fails: -DPAIR=1 -DCLEAR_FIRST
 * fails: -DPAIR=1 -DWEAK -DNO_PAIR_FENCE
 * fails: -DPAIR=1 -DNOMB
 *
 * NO_MEMBARRIER the sleeper does not call it; NO_SLEEPER_FENCE, NO_FENCE, NO_SWITCH_FENCE the fence after ASLEEP, of a FENCED
 * sender, after the mode UNFENCED is missing; LOOK_BEFORE_MODES, NORELOOK the rings are looked at too early, or not at all;
 * RELAXED_FENCED the mode FENCED is no release store; RELAXED_MODE_READ modes are read without acquire; PAIRED_EARLY `paired` is
 * read before the fence; PAIR_AFTER the bit after the first record; CLEAR, CLEAR_FIRST somebody drops a bit of `paired`;
 * NO_PAIR_FENCE no fence after the bit; NOMB without NOMB_RULE: nobody fences for a receiver that cannot membarrier.
 */
#ifndef NS
#define NS 2
#endif
#ifndef NM
#define NM 2
#endif
#ifndef PAIR
#define PAIR 0
#endif
#define OLD 2
mtype = { PUB, TOF, TOU, BIT };

byte pub[NS]; bool unfenced[NS], paired[NS];   /* memory: tails, mode words, bits of `paired` */
chan sb0 = [4] of { mtype }; chan sb1 = [4] of { mtype };
#if NS > 2
chan sb2 = [4] of { mtype };
#endif
byte ep = OLD; bool asleep, woken, waiting;    /* the doorbell word; ep and last are ages */
bool bclr, bset;
byte last[NS], we[NS], got[NS];
byte finished;

#define APPLY(i, x) if :: x == PUB -> pub[i]++ :: x == TOF -> unfenced[i] = 0 \
	:: x == TOU -> unfenced[i] = 1 :: x == BIT -> paired[i] = 1 fi; x = 0
#ifdef WEAK
#ifdef RELAXED_FENCED
#define LEAVE(q, i) \
	:: atomic { q ?? [TOF] -> q ?? TOF; unfenced[i] = 0 } \
	:: atomic { q ?? [TOU] -> q ?? TOU; unfenced[i] = 1 } \
	:: atomic { q ?? [BIT] -> q ?? BIT; paired[i] = 1 } \
	:: atomic { q ? [PUB] -> q ? PUB; pub[i]++ }
#else
#define LEAVE(q, i) \
	:: atomic { q ? [TOF] -> q ? TOF; unfenced[i] = 0 } \
	:: atomic { q ?? [TOU] -> q ?? TOU; unfenced[i] = 1 } \
	:: atomic { q ?? [BIT] -> q ?? BIT; paired[i] = 1 } \
	:: atomic { q ? [PUB] -> q ? PUB; pub[i]++ }
#endif
#else
#define LEAVE(q, i) :: atomic { q ? x -> APPLY(i, x) }
#endif

active proctype flush()
{ mtype x;
end:	do
	LEAVE(sb0, 0)
#if NS > 1
	LEAVE(sb1, 1)
#endif
#if NS > 2
	LEAVE(sb2, 2)
#endif
	:: atomic { bclr -> bclr = 0; asleep = 0; woken = 0 }
	:: atomic { !bclr && bset -> bset = 0; ep = 0; asleep = 1; woken = 0 }
	od
}

#ifdef NO_FENCE
#define DRAINED(q) true
#else
#define DRAINED(q) empty(q)
#endif

proctype sender(byte s; chan q; bool u; bool p)
{ byte n; bool ww, go;
	do
	:: n < NM ->
		if                                       /* once, at pairing: set the bit, fence */
		:: !p ->
#if defined(NOMB) && defined(NOMB_RULE)
			atomic { u -> q ! TOF; u = 0 }   /* the receiver cannot membarrier: FENCED from now on */
#endif
#ifdef PAIR_AFTER
			atomic { p = 1; q ! PUB }
			if :: u :: !u -> empty(q) fi;
			atomic { q ! BIT; n++ }
			goto look;
#endif
#ifdef WEAK
			q ! BIT;
#else
			atomic { empty(q) -> paired[s] = 1 };
#endif
#ifndef NO_PAIR_FENCE
			empty(q);
#endif
			p = 1
		:: else
		fi;
		atomic { q ! PUB; n++ };
look:		atomic { u || DRAINED(q) ->
			ww = woken; go = 0;
			if
			:: asleep && ep != last[s] -> we[s] = ep; last[s] = ep; go = 1
			:: else
			fi };
		if
		:: go && !ww -> atomic { empty(q) -> if
			:: ep == we[s] && asleep && !woken -> woken = 1
			:: ep == we[s] && asleep && woken -> skip
			:: else -> go = 0 fi }
		:: else
		fi;
		if :: go -> waiting = 0 :: else fi;
		atomic { we[s] = OLD; go = 0; ww = 0 };
#ifdef SWITCH
		if
		:: skip
		:: atomic { u -> q ! TOF; u = 0 }        /* release store */
#ifndef NOMB
		:: !u -> atomic { q ! TOU; u = 1 };
#ifndef NO_SWITCH_FENCE
			empty(q)                         /* store the mode, full fence, go on */
#endif
#endif
		fi
#endif
	:: else -> break
	od;
	atomic { last[s] = OLD; finished++ }
}

#define AGE(w) last[w] = (last[w] == 0 -> 1 : OLD); we[w] = (we[w] == 0 -> 1 : OLD)
#define TAKE(i) if :: pub[i] != got[i] -> got[i] = pub[i]; found = 1 :: else fi
#ifdef NO_SLEEPER_FENCE
#define RFENCE true
#else
#define RFENCE !bclr && !bset
#endif
#ifdef RELAXED_MODE_READ
#define PEEK(i) early[i] = (paired[i] -> pub[i] : got[i])
#define LOOKED(i) atomic { if :: pre -> if :: early[i] != got[i] -> got[i] = early[i]; found = 1 :: else fi \
	:: !pre && paired[i] -> TAKE(i) :: else fi }
#else
#define LOOKED(i) atomic { if :: SEEN(i) -> TAKE(i) :: else fi }
#endif
#ifdef PAIRED_EARLY
#define SEEN(i) p[i]
#else
#define SEEN(i) paired[i]
#endif
#define MODE(i) atomic { RFENCE -> if :: SEEN(i) && unfenced[i] -> mb = 1 :: else fi }

active proctype receiver()
{ byte i; bool found, mb, pre; bool p[NS];
#ifdef RELAXED_MODE_READ
	byte early[NS];
#endif
	atomic {
		do :: i < NS -> last[i] = OLD; we[i] = OLD; paired[i] = (i + PAIR < NS); unfenced[i] = (i & 1); i++ :: else -> break od;
		i = 0;
#if PAIR > 0
		unfenced[NS - 1] = 1;
#endif
		run sender(0, sb0, unfenced[0], paired[0]);
#if NS > 1
		run sender(1, sb1, unfenced[1], paired[1]);
#endif
#if NS > 2
		run sender(2, sb2, unfenced[2], paired[2]);
#endif
#if defined(CLEAR) || defined(CLEAR_FIRST)
		paired[NS - 1] = 1;                      /* left by a dead owner of this sender's slot */
#endif
	}
#ifdef CLEAR
	if                                               /* drained, so the dead owner's bit is dropped */
	:: atomic { pub[NS - 1] == 0 }; paired[NS - 1] = 0
	:: atomic { pub[NS - 1] != 0 }
	fi;
#elif defined(CLEAR_FIRST)
	paired[NS - 1] = 0;                              /* dropped, then drained */
	atomic { i = NS - 1; TAKE(i); i = 0; found = 0 };
#endif
awake:	atomic { !bset;
		p[0] = paired[0]; if :: p[0] -> TAKE(0) :: else fi;
#if NS > 1
		p[1] = paired[1]; if :: p[1] -> TAKE(1) :: else fi;
#endif
#if NS > 2
		p[2] = paired[2]; if :: p[2] -> TAKE(2) :: else fi;
#endif
#ifndef PAIRED_EARLY
		p[0] = 0;
#if NS > 1
		p[1] = 0;
#endif
#if NS > 2
		p[2] = 0;
#endif
#endif
		found = 0; mb = 0; ep = (ep == 0 -> 1 : OLD);
		AGE(0);
#if NS > 1
		AGE(1);
#endif
#if NS > 2
		AGE(2);
#endif
		bset = 1 };
#ifdef RELAXED_MODE_READ
	if                                               /* the loads of the look may pass those of the modes */
	:: atomic { RFENCE -> pre = 1; PEEK(0); PEEK(1) }
	:: pre = 0
	fi;
#endif
#ifdef LOOK_BEFORE_MODES
	atomic { RFENCE -> if :: SEEN(0) -> TAKE(0) :: else fi };
	LOOKED(1);
#endif
	MODE(0);
#if NS > 1
	MODE(1);
#endif
#if NS > 2
	MODE(2);
#endif
#ifndef NO_MEMBARRIER
#ifndef NOMB
	if
	:: mb -> empty(sb0);                             /* membarrier: each in its turn */
#if NS > 1
		empty(sb1);
#endif
#if NS > 2
		empty(sb2);
#endif
		pre = 0
	:: else
	fi;
#endif
#endif
#ifndef NORELOOK
#ifndef LOOK_BEFORE_MODES
	LOOKED(0);
#if NS > 1
	LOOKED(1);
#endif
#if NS > 2
	LOOKED(2);
#endif
#endif
#endif
	if
	:: atomic { found && !bset && !bclr -> bclr = 1; goto awake }
	:: atomic { !found && !bclr && !bset -> assert(ep == 0);
		if :: asleep && !woken -> waiting = 1 :: else fi }
	fi;
	if
	:: atomic { !waiting -> bclr = 1;
		goto awake }
	:: timeout -> goto quiet
	fi;
quiet:	atomic {
		assert(finished == NS);
		i = 0;
		do :: i < NS -> assert(got[i] == NM); i++ :: else -> break od }
}
