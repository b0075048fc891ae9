/* pool.pml: chunks of one sender, two receivers, everybody killed and replaced.
 *
 * Modelled: NC chunks; one ring of descriptors per receiver (positions only grow, never full);
 * borrow bits per chunk and receiver slot; the receiver's slot word (generation, LIVE or not, one
 * load); a message goes to both receivers with one chunk. The sender looks for a chunk that is
 * not in use, overwrites it (all live readers of the old content must be gone), reads the current
 * generation of each receiver and publishes. In use = a descriptor that it tracks names the
 * current generation and lies at or behind the head, or a borrow bit is set. Its test is a series
 * of single loads: slot words and heads of all first, bits last. The sender's successor rebuilds
 * what it tracks from the rings (head to tail, current generation).
 * The receiver takes a descriptor, uses the content, may set its bit and give the position back
 * while it goes on reading, releases later. At its death the reaper (under the control lock, may
 * itself be killed and run again) clears its bits, then makes the slot FREE. The next owner walks
 * to the first unpublished record, publishes its position, becomes LIVE.
 * -DCLOSE: a receiver closes while it still has a borrow: the slot becomes LEAVING (no longer
 * current, bits still count) and, at the last release, LEFT and FREE (one step here).
 *
 * Properties: a chunk is never overwritten while a live receiver can read it (unread and addressed
 * to it, in its turn, or borrowed); all chunks are free at the end; no deadlock.
 *
 * holds: -DNC=1 -DNMSG=2
 * holds: -DNC=1 -DNMSG=3 -DKJ=0
 * holds: -DNC=1 -DNMSG=3 -DKS=0
 * holds: -DNC=1 -DNMSG=2 -DKJ=0 -DCLOSE
 * holds: -DNC=1 -DNMSG=3 -DKJ=0 -DKS=0 -DNOWALK
 * fails: -DNC=1 -DNMSG=3 -DKJ=0 -DBITSFIRST
 * fails: -DNC=1 -DNMSG=3 -DKJ=0 -DBITLATE
 * fails: -DNC=1 -DNMSG=3 -DKJ=0 -DFREEFIRST
 * fails: -DNC=1 -DNMSG=3 -DKJ=0 -DNOCLEAR
 * fails: -DNC=1 -DNMSG=3 -DKJ=0 -DNOBITS
 * fails: -DNC=1 -DNMSG=3 -DKJ=0 -DNORINGS
 * fails: -DNC=1 -DNMSG=3 -DKJ=0 -DNOGEN
 * fails: -DNC=1 -DNMSG=2 -DKJ=0 -DCLOSE -DCLOSEFREE
 *
 * BITSFIRST the sender reads the bits before the heads; BITLATE the receiver sets its bit after the head; FREEFIRST the
 * reaper frees before it clears; NOCLEAR it does not clear; NOBITS, NORINGS the sender's successor does not look at
 * bits, or at rings; NOGEN a descriptor counts whatever generation it names; CLOSEFREE a close frees the slot
 * and its bits at once. NOWALK (the receiver's successor does not walk) holds: the generation decides alone.
 */
#ifndef NC
#define NC 2
#endif
#ifndef NMSG
#define NMSG 3
#endif
#ifndef KS
#define KS 1
#endif
#ifndef KR
#define KR 1				/* kills, both receivers together */
#endif
#ifndef KJ
#define KJ 1				/* kills of the reaper */
#endif
#define POS 5
#define NO 15

mtype = { FREE, LIVE, LEAVING };
mtype st[2] = LIVE; byte gen[2] = 1;		/* slot words */
byte chunk[2 * POS], rgen[2 * POS];		/* ring records */
byte head[2], tail[2];				/* tail: first 0 header; published records end here */
bit bit0[NC * 2];				/* borrow bits: chunk * 2 + receiver */

bit alive[2] = 1, sdone, skill, rkill[2], jkill;
byte priv[2];					/* ghost: position up to which the receiver has read */
byte inturn[2] = NO, held[2] = NO;		/* ghosts: chunk read in this turn; borrowed */
bit holder[2] = 1;				/* ghost: some live process can read through this slot */
byte reads;

#define U(r, c, i) (i >= priv[r] && i < tail[r] && chunk[r*POS+i] == c && rgen[r*POS+i] == gen[r] && st[r] == LIVE)
#define UNREAD(r, c) (U(r,c,0) || U(r,c,1) || U(r,c,2) || U(r,c,3) || U(r,c,4))
#define CANREAD(r, c) (holder[r] && (inturn[r] == c || held[r] == c || UNREAD(r, c)))

/* private state of the sender: newest descriptor of chunk c in ring r, NO if none */
byte dpos[NC * 2] = NO;

inline current(r, c, res)	/* one load of the slot word, then one of the head */
{
	atomic {
		if
#ifdef NOGEN
		:: dpos[c*2+r] != NO -> res = 1
#else
		:: dpos[c*2+r] != NO && st[r] == LIVE && gen[r] == rgen[r*POS+dpos[c*2+r]] -> res = 1
#endif
		:: else -> res = 0
		fi
	};
	if
	:: res -> res = (head[r] <= dpos[c*2+r])
	:: else
	fi
}

active proctype sender()
{
	byte c, g0, g1, n, i; bit u, v;
	goto serve;
join:	skip;
	/* rebuild: heads of both rings first; the bits are looked at by each test */
	d_step {
		i = 0;
		do :: i < NC * 2 -> dpos[i] = NO; i++ :: else -> break od;
		i = 0
	};
#ifndef NORINGS
	d_step {
		i = head[0];
		do
		:: i < tail[0] -> if :: rgen[i] == gen[0] -> dpos[chunk[i]*2] = i :: else fi; i++
		:: else -> break
		od;
		i = 0
	};
	d_step {
		i = head[1];
		do
		:: i < tail[1] -> if :: rgen[POS+i] == gen[1] -> dpos[chunk[POS+i]*2+1] = i :: else fi; i++
		:: else -> break
		od;
		i = 0
	};
#endif
#ifdef NOBITS
	n = 1;
#endif
serve:	{
		do
		:: reads < NMSG ->
			/* choose a chunk and test it; if in use, look again later (any chunk) */
			if :: c = 0 :: c = NC - 1 fi;
#ifdef BITSFIRST
			u = bit0[c*2] || bit0[c*2+1];
			if :: u -> goto again :: else fi;
#endif
			current(0, c, u);
			if :: u -> goto again :: else fi;
			current(1, c, u);
			if :: u -> goto again :: else fi;
#ifndef BITSFIRST
			if
			:: n -> skip
			:: else ->
				u = bit0[c*2];
				if :: u -> goto again :: else fi;
				u = bit0[c*2+1];
				if :: u -> goto again :: else fi
			fi;
#endif
			/* overwrite */
			d_step { assert(!CANREAD(0, c) && !CANREAD(1, c)); reads++ };
			atomic { g0 = (st[0] == LIVE -> gen[0] : 0) };
			atomic { g1 = (st[1] == LIVE -> gen[1] : 0) };
			if
			:: g0 -> d_step { chunk[tail[0]] = c; rgen[tail[0]] = g0; dpos[c*2] = tail[0]; tail[0]++ }
			:: else
			fi;
			if
			:: g1 -> d_step { chunk[POS+tail[1]] = c; rgen[POS+tail[1]] = g1; dpos[c*2+1] = tail[1]; tail[1]++ }
			:: else
			fi;
again:			skip;
			d_step { c = 0; u = 0; g0 = 0; g1 = 0 }
		:: else -> break
		od;
		sdone = 1
	} unless {
		skill -> d_step { skill = 0; c = 0; u = 0; g0 = 0; g1 = 0 };
		if :: sdone -> skip :: else -> goto join fi
	};
	/* all chunks are free at the end */
	(st[0] == FREE && st[1] == FREE);
	c = 0;
	do
	:: c < NC ->
		current(0, c, u); assert(!u);
		current(1, c, u); assert(!u);
		assert(!bit0[c*2] && !bit0[c*2+1]);
		c++
	:: else -> break
	od
}

proctype receiver(byte me)
{
	byte h;
	goto serve;
join:	skip;
#ifndef NOWALK
	h = head[me];
	do
	:: h < tail[me] -> h++
	:: else -> break
	od;
	head[me] = h;
#endif
	d_step { h = 0; priv[me] = head[me]; holder[me] = 1; alive[me] = 1; st[me] = LIVE };
serve:	{
		do
		:: d_step { priv[me] < tail[me] ->
				if
				:: rgen[me*POS+priv[me]] == gen[me] -> inturn[me] = chunk[me*POS+priv[me]]
				:: else
				fi;
				priv[me]++ }
			if
			:: inturn[me] != NO && held[me] == NO ->	/* borrow beyond the turn */
#ifdef BITLATE
				head[me] = priv[me];
				bit0[inturn[me]*2+me] = 1;
				d_step { held[me] = inturn[me]; inturn[me] = NO };
#else
				bit0[inturn[me]*2+me] = 1;
				d_step { held[me] = inturn[me]; inturn[me] = NO };
				head[me] = priv[me];
#endif
			:: inturn[me] = NO; if :: head[me] = priv[me] :: skip fi
			fi
		:: held[me] != NO ->					/* release */
			d_step { h = held[me]; held[me] = NO };
			bit0[h*2+me] = 0;
			h = 0
		:: priv[me] == tail[me] && head[me] != priv[me] -> head[me] = priv[me]
		:: atomic { sdone && priv[me] == tail[me] && head[me] == priv[me] && held[me] == NO -> break }
#ifdef CLOSE
		:: held[me] != NO && me == 0 -> goto leave
#endif
		od;
		atomic { holder[me] = 0; st[me] = FREE };
		goto fin;
#ifdef CLOSE
leave:		skip;
#ifdef CLOSEFREE
		d_step { bit0[0*2+me] = 0; bit0[(NC-1)*2+me] = 0; st[me] = FREE };
		d_step { held[me] = NO; inturn[me] = NO; holder[me] = 0 };
#else
		st[me] = LEAVING;
		d_step { h = held[me]; held[me] = NO };
		bit0[h*2+me] = 0;
		h = 0;
		d_step { holder[me] = 0; st[me] = FREE };
#endif
		goto again
#endif
	} unless {
		rkill[me] -> d_step { rkill[me] = 0; h = 0; inturn[me] = NO; held[me] = NO; holder[me] = 0; alive[me] = 0 }
	};
	(st[me] == FREE);
again:	if
	:: sdone -> d_step { gen[me]++; st[me] = FREE }; goto fin
	:: !sdone -> gen[me]++; goto join			/* GRANTED: not current, not LIVE */
	fi;
fin:	skip
}

/* any process, under the control lock; killed = starts over */
active proctype reaper()
{
	byte r;
end:	do
	:: atomic { !alive[0] && st[0] != FREE -> r = 0; goto reap }
	:: atomic { !alive[1] && st[1] != FREE -> r = 1; goto reap }
	od;
reap:	{
#ifdef FREEFIRST
		st[r] = FREE;
#endif
#ifndef NOCLEAR
		bit0[r] = 0;
		bit0[(NC-1)*2+r] = 0;
#endif
#ifndef FREEFIRST
		st[r] = FREE;
#endif
		r = 0;
		goto end
	} unless { jkill -> d_step { jkill = 0; r = 0 }; goto end }
}

active proctype killer()
{
	byte ks, kr, kj;
end:	do
	:: ks < KS && !sdone && !skill -> d_step { ks++; skill = 1 }
	:: kr < KR && holder[0] && !rkill[0] && !sdone -> d_step { kr++; rkill[0] = 1 }
	:: kr < KR && holder[1] && !rkill[1] && !sdone -> d_step { kr++; rkill[1] = 1 }
	:: kj < KJ && !jkill && (!alive[0] || !alive[1]) -> d_step { kj++; jkill = 1 }
	od
}

init { atomic { run receiver(0); run receiver(1) } }
