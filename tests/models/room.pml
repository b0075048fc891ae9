/* room.pml: the `room` doorbell; a bounded emitter waits for room while receivers give positions back lazily.
 *
 * Modelled: one emitter with a ring of CAP records to each of NR receivers emits K messages, each to all receivers or to
 * none; it needs room for NEED records before it emits one (padding and the largest record). No room: it stores ASLEEP in its
 * `room` word with a new epoch, fences, looks at all heads again, sleeps. It may time out up to TMO times and
 * tries again. A receiver takes records one by one and gives its position back at any moment or not, but always before
 * it sleeps on its own `inbox`. To give back is: store head; then, if LAZY records or more were given back since
 * the last look, or before a sleep: fence, look at the `room` word, ring it by the rule of doorbell.pml (each
 * receiver wakes each epoch at most once). The code's figures are CAP 8/8, LAZY 1/8, NEED 2/8 of a ring; who
 * needs CAP - LAZY or less is never forgotten. The receiver may stay awake for ever without a further look (IDLE: it polls),
 * so the rule has to hold without the sleep. The emitter rings the inboxes after one fence per emission.
 * x86-TSO: `qa`, `qb[r]` are FIFO store buffers. Epochs are ages, see doorbell.pml.
 * BORROW: a receiver also pins a chunk that the emitter needs, and lets go of it before it sleeps.
 *
 * Property, checked when nothing can move any more: all K messages were sent and taken. So no lost room wake, no lost
 * message wake, and never emitter and receiver asleep on each other.
 *
 * pan: -DNOREDUCE -DVECTORSZ=2048
 * holds: -DK=4
 * holds: -DK=3 -DNR=2
 * holds: -DK=4 -DBORROW
 * holds: -DK=6 -DCAP=4 -DLAZY=3 -DNEED=2 -DIDLE
 * holds: -DK=5 -DCAP=3 -DLAZY=2 -DNEED=1 -DIDLE
 * fails: -DK=6 -DCAP=4 -DLAZY=3 -DNEED=3 -DIDLE
 * fails: -DK=6 -DCAP=3 -DLAZY=3 -DNEED=2 -DIDLE
 * fails: -DK=4 -DNOFENCE_GIVE
 * fails: -DK=4 -DNO_GIVE
 * fails: -DK=4 -DNO_ROOM_RING
 * fails: -DK=4 -DNORELOOK
 * fails: -DK=4 -DNOFENCE_WAIT
 * fails: -DK=4 -DLOOK_THEN_GIVE
 * fails: -DK=4 -DSAME_EPOCH
 * fails: -DK=4 -DNO_INBOX_FENCE
 * fails: -DK=4 -DBORROW -DBORROW_SILENT
 *
 * The two with LAZY + NEED > CAP + 1 are controls: the emitter sleeps over the last records, which call for no look.
 * NOFENCE_GIVE no fence between head and look; NO_GIVE nothing is given back before a sleep; NO_ROOM_RING no look at all;
 * NORELOOK, NOFENCE_WAIT the emitter does not look again, or before its ASLEEP is seen; LOOK_THEN_GIVE look before the head;
 * SAME_EPOCH a second sleep in the same epoch; NO_INBOX_FENCE no fence after an emission; BORROW_SILENT a borrow given
 * back without a look.
 */
#ifndef NR
#define NR 1
#endif
#ifndef K
#define K 4
#endif
#ifndef CAP
#define CAP 2
#endif
#ifndef LAZY
#define LAZY 1
#endif
#ifndef NEED
#define NEED 1
#endif
#ifndef TMO
#define TMO 1
#endif
#define OLD 2
mtype = { PUB, HEAD, SET, CLR, FREE };

byte pub[NR], head[NR]; bool pinned[NR];       /* memory */
chan qa = [4] of { mtype, byte };              /* emitter: PUB r, or SET/CLR of its room word */
chan qb0 = [3] of { mtype, byte };             /* receiver: HEAD position, SET/CLR of its inbox, FREE */
#if NR > 1
chan qb1 = [3] of { mtype, byte };
#endif
byte repoch = OLD; bool rasleep, rwoken, rwaiting;           /* the emitter's room word */
byte iepoch[NR]; bool iasleep[NR], iwoken[NR], iwaiting[NR]; /* inboxes */
byte rlast[NR], ilast[NR], rwe[NR], iwe[NR];                 /* ages: remembered as woken, being woken */
byte sent, took[NR];

#define OUTB(q, r) :: atomic { q ? t, v -> if \
	:: t == HEAD -> head[r] = v \
	:: t == FREE -> pinned[r] = 0 \
	:: t == SET -> iepoch[r] = 0; iasleep[r] = 1; iwoken[r] = 0 \
	:: t == CLR -> iasleep[r] = 0; iwoken[r] = 0 fi; t = 0; v = 0 }
active proctype flush()
{ mtype t; byte v;
end:	do
	:: atomic { qa ? t, v -> if
		:: t == PUB -> pub[v]++
		:: t == SET -> repoch = 0; rasleep = 1; rwoken = 0
		:: t == CLR -> rasleep = 0; rwoken = 0 fi; t = 0; v = 0 }
	OUTB(qb0, 0)
#if NR > 1
	OUTB(qb1, 1)
#endif
	od
}

/* look, mark, wake; the look comes after a fence where FENCE says so */
#define RING(FENCE, BUF, EPOCH, ASL, WOK, WAITING, LAST, WE) \
	atomic { FENCE -> go = 0; ww = WOK; if \
		:: ASL && EPOCH != LAST -> LAST = EPOCH; WE = EPOCH; go = 1 \
		:: else fi }; \
	if \
	:: go && !ww -> atomic { BUF -> if \
		:: EPOCH == WE && ASL && !WOK -> WOK = 1 \
		:: EPOCH == WE && ASL && WOK -> skip \
		:: else -> go = 0 fi } \
	:: else fi; \
	if :: go -> atomic { WAITING = 0; go = 0; ww = 0; WE = OLD } \
	:: else -> atomic { ww = 0; WE = OLD } fi
#define AGE(x) x = (x == 0 -> 1 : OLD)

#ifdef NO_INBOX_FENCE
#define AF true
#else
#define AF empty(qa)
#endif
#ifdef NOFENCE_WAIT
#define WF true
#else
#define WF empty(qa)
#endif
#define SEEROOM(r) atomic { WF -> if :: sent - head[r] + NEED > CAP || pinned[r] -> noroom = 1 :: else fi }

active proctype emitter()
{ bool noroom, go, ww, again; byte tmo;
	if :: tmo = TMO :: tmo = 0 fi;
try:	do
	:: sent < K ->
		noroom = 0;
		SEEROOM(0);
#if NR > 1
		SEEROOM(1);
#endif
		if
		:: !noroom ->
			atomic { qa ! PUB, 0;
#if NR > 1
				qa ! PUB, 1;
#endif
				sent++ };
			RING(AF, empty(qa), iepoch[0], iasleep[0], iwoken[0], iwaiting[0], ilast[0], iwe[0]);
#if NR > 1
			RING(AF, empty(qa), iepoch[1], iasleep[1], iwoken[1], iwaiting[1], ilast[1], iwe[1]);
#endif
		:: else ->
			atomic { noroom = 0;
#ifdef SAME_EPOCH
				if :: again :: else -> again = 1; AGE(repoch); AGE(rlast[0]); AGE(rwe[0]) fi;
#else
				AGE(repoch); AGE(rlast[0]); AGE(rwe[0]);
#endif
#if NR > 1
				AGE(rlast[1]); AGE(rwe[1]);
#endif
				qa ! SET, 0 };
#ifndef NORELOOK
			SEEROOM(0);
#if NR > 1
			SEEROOM(1);
#endif
#else
			noroom = 1;
#endif
			if
			:: !noroom
			:: noroom -> atomic { empty(qa) -> noroom = 0;
				if :: rasleep && !rwoken -> rwaiting = 1 :: else fi };
endwait:		if
				:: !rwaiting
				:: tmo > 0 -> atomic { tmo--; rwaiting = 0 }
				fi
			fi;
			qa ! CLR, 0
		fi
	:: else -> break
	od
}

#ifdef NOFENCE_GIVE
#define GF(q) true
#else
#define GF(q) empty(q)
#endif
#define RINGROOM(q) RING(GF(q), empty(q), repoch, rasleep, rwoken, rwaiting, rlast[r], rwe[r])

#ifdef NO_GIVE
#define GIVEN true
#else
#define GIVEN (told == pos)
#endif

proctype receiver(byte r; chan q)
{ byte pos, given, told; bool go, ww, pin;
endidle: do
	:: atomic { pub[r] != pos -> pos++; took[r] = pos;      /* take one record */
#ifdef BORROW
		if :: !pin && !pinned[r] -> pin = 1; pinned[r] = 1 :: true fi
#endif
		}
	:: given != pos ->                                      /* give back, at any moment */
#ifdef LOOK_THEN_GIVE
		RINGROOM(q);
		atomic { q ! HEAD, pos; given = pos; told = pos }
#else
		atomic { q ! HEAD, pos; given = pos };
		if
		:: pos - told < LAZY
#ifndef NO_ROOM_RING
		:: else -> RINGROOM(q); told = pos
#else
		:: else -> told = pos
#endif
		fi
#endif
#ifndef IDLE
	:: atomic { given == pos && told != pos -> told = pos };   /* before a sleep: the look that was saved */
#ifndef NO_ROOM_RING
		RINGROOM(q)
#endif
#endif
#ifdef BORROW
	:: pin -> atomic { q ! FREE, 0; pin = 0 };              /* let go of the borrow */
#ifndef BORROW_SILENT
		RINGROOM(q)
#endif
#endif
#ifdef IDLE
	:: false
#else
	:: atomic { pub[r] == pos && !pin && GIVEN ->           /* before sleeping all is given back */
		AGE(iepoch[r]); AGE(ilast[r]); AGE(iwe[r]); q ! SET, 0 };
		if
		:: atomic { empty(q) && pub[r] != pos -> q ! CLR, 0 }           /* fence, look again */
		:: atomic { empty(q) && pub[r] == pos };
			atomic { empty(q) -> if :: iasleep[r] && !iwoken[r] -> iwaiting[r] = 1 :: else fi };
endwait:		atomic { !iwaiting[r] -> q ! CLR, 0 }
		fi
#endif
	od
}

active proctype monitor()
{ byte i;
	atomic {
		do :: i < NR -> iepoch[i] = OLD; ilast[i] = OLD; rlast[i] = OLD; iwe[i] = OLD; rwe[i] = OLD; i++
		:: else -> break od;
		i = 0;
		run receiver(0, qb0);
#if NR > 1
		run receiver(1, qb1);
#endif
	}
	timeout -> atomic {
		assert(sent == K);
		do :: i < NR -> assert(took[i] == K); i++ :: else -> break od }
}
