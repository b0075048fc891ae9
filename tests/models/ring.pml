/* ring.pml: one ring with one sender and one receiver; both ends killed and replaced.
 *
 * Modelled: records of 2 or 3 cells (first word with the length, then body) in a ring of C
 * cells, positions that only grow, padding at the end of the ring, the receiver polling the first word at
 * its position, 0 stored at the next first word before the release of this one, one spare cell,
 * lazy head, lazy hint: stored at any moment, which covers the code's eighth of a ring, full ring, wake and close.
 * The sender's stores go through a buffer from which any store may become visible before or after any
 * other, except that a release store waits for all earlier ones and stores to one place keep their
 * order. A kill drops whatever is still in the buffer, so every subset that these rules allow is
 * a crash image. The sender's new owner walks from max(hint, head) to the first 0. The receiver's new owner
 * walks, while JOINING, from the head to the first 0, publishes its position, becomes LIVE; the
 * sender goes on meanwhile.
 * Compact records (RECORD_SAME): one that names the same owners as the last full record before it leaves
 * them out. The sender must write a full one first to each new owner of the receiving end, and
 * after it took over the sending end; the receiver believes in nobody until it has read a full one.
 *
 * Properties: what the receiver takes for a record is one (place, length, content, owners); the
 * chain of published records has no gap or overlap, also over a sender's death; numbers rise
 * (nothing twice, nothing out of order); nothing goes to another generation; the last generation
 * gets all that was published for it; nothing unread is overwritten; no deadlock.
 *
 * holds: -DNREC=3
 * holds: -DNREC=4 -DKR=0
 * holds: -DNREC=5 -DKS=0 -DKR=0
 * fails: -DNREC=3 -DNOZERO
 * fails: -DNREC=3 -DZEROLATE
 * fails: -DNREC=3 -DHDRPLAIN
 * fails: -DNREC=3 -DNOSPARE
 * fails: -DNREC=3 -DHEADEARLY
 * fails: -DNREC=3 -DNOACQ
 * fails: -DNREC=3 -DNOGENCHECK
 * fails: -DNREC=3 -DKR=0 -DHINTPLAIN
 * fails: -DNREC=3 -DKR=0 -DHINTEARLY
 * fails: -DNREC=3 -DKR=0 -DNOWALK
 * fails: -DNREC=3 -DRWALKHINT
 * fails: -DNREC=3 -DLIVEFIRST
 * fails: -DNREC=3 -DTWOREADS
 * fails: -DNREC=3 -DKS=0 -DSAIDSTAYS
 * fails: -DNREC=3 -DKR=0 -DSAIDLEFT
 *
 * NOZERO no 0 behind a record; ZEROLATE that 0 after the header; HDRPLAIN the header is no release; NOSPARE the 0 has no
 * cell of its own; HEADEARLY head before the record is read; NOACQ body read before the header; NOGENCHECK the
 * receiver does not look at generations; HINTPLAIN, HINTEARLY hint before the header; NOWALK the new sender takes the
 * hint for the tail; RWALKHINT the new receiver begins at the hint; LIVEFIRST LIVE before the walk; TWOREADS state and
 * generation of the slot in two loads; SAIDSTAYS, SAIDLEFT a compact record is the first to a new receiver, or the
 * first of a new sender.
 */
#ifndef C
#define C 6
#endif
#ifndef NREC
#define NREC 4
#endif
#ifndef KS
#define KS 1				/* kills of the sender */
#endif
#ifndef KR
#define KR 1				/* kills of the receiver */
#endif
#define B 10				/* store buffer */
#define PAD 8				/* first word of padding: PAD + cells */
#define BODY 32				/* BODY + number */
#define HINT C				/* address of the hint word */
#define NONE 255
#ifdef NOSPARE
#define SPARE 0
#else
#define SPARE 1
#endif
#define LEN(h) ((h) >= PAD -> (h) - PAD : (h))

byte mem[C];				/* first words and bodies */
byte hint, head;			/* written by sender, by receiver */
mtype = { FREE, GRANTED, LIVE };
mtype rst = LIVE; byte rgen = 1;	/* the receiver's slot word */

byte pa[B], pv[B], pp[B]; bit prel[B]; byte pn;	/* store buffer: place, value, position */
byte to[16];				/* owners in record number i: receiver generation + 4 * sender generation */
bit same[16];				/* record number i leaves its owners out */
#define TO(i) (to[i] & 3)

byte gtail, gnum[C], gpos[C];		/* ghosts: true tail; number and position of the record there */
byte pub[4], got[4];			/* ghosts, per receiver generation */
byte sent, num; bit sdone, skill, rkill;

inline put(q, a, v, r) { pp[pn] = q; pa[pn] = a; pv[pn] = v; prel[pn] = r; pn++ }

inline apply(k)
{
	if
	:: pa[k] == HINT -> hint = pv[k]
	:: else ->
		assert(pp[k] < head + C);			/* nothing unread is overwritten */
		mem[pa[k]] = pv[k];
		if
		:: pv[k] != 0 && pv[k] < BODY ->		/* a publication */
			assert(pp[k] == gtail);
			gtail = gtail + LEN(pv[k]);
			gpos[pa[k]] = pp[k];
			gnum[pa[k]] = 0;
			if
			:: pv[k] < PAD -> gnum[pa[k]] = prnum[k]; pub[TO(prnum[k])]++
			:: else
			fi
		:: else
		fi
	fi;
	i = k;
	do
	:: i + 1 < pn -> pa[i] = pa[i+1]; pv[i] = pv[i+1]; pp[i] = pp[i+1]; prel[i] = prel[i+1];
		prnum[i] = prnum[i+1]; i++
	:: else -> break
	od;
	pn--; pa[pn] = 0; pv[pn] = 0; pp[pn] = 0; prel[pn] = 0; prnum[pn] = 0; i = 0
}
byte prnum[B];

/* may entry k become visible now? */
#define OLDER(k, j) ((j) < (k) && pa[j] == pa[k])
#define MAY(k) (k < pn && (!prel[k] || k == 0) && !(OLDER(k,0) || OLDER(k,1) || OLDER(k,2) || \
	OLDER(k,3) || OLDER(k,4) || OLDER(k,5) || OLDER(k,6) || OLDER(k,7) || OLDER(k,8)))

active proctype memory()
{
	byte i;
end:	do
	:: d_step { MAY(0) -> apply(0) }
	:: d_step { MAY(1) -> apply(1) }
	:: d_step { MAY(2) -> apply(2) }
	:: d_step { MAY(3) -> apply(3) }
	:: d_step { MAY(4) -> apply(4) }
	:: d_step { MAY(5) -> apply(5) }
	:: d_step { MAY(6) -> apply(6) }
	:: d_step { MAY(7) -> apply(7) }
	:: d_step { MAY(8) -> apply(8) }
	:: d_step { MAY(9) -> apply(9) }
	od
}

active proctype sender()
{
	byte t, g, l, pad, lasthint, h, me, known; bit said;
join:	skip;
	/* nobody else writes these cells or the hint, so one step */
	d_step {
#ifdef NOWALK
		t = hint;
#else
		t = (hint > head -> hint : head);
		do
		:: mem[t % C] != 0 -> h = mem[t % C]; assert(h < BODY); t = t + LEN(h)
		:: else -> break
		od;
#endif
		h = 0;
		assert(t == gtail);
		lasthint = hint;
#ifdef SAIDLEFT
		said = me > 0;
		known = rgen;
#endif
		me++
	};
	{
		do
		:: sent < NREC ->
			if
#ifdef TWOREADS
			:: rst == LIVE -> g = rgen
#else
			:: atomic { rst == LIVE -> g = rgen }	/* one load of the slot word */
#endif
			:: else -> sent++; goto again		/* skipped and counted */
			fi;
			if :: l = 2 :: l = 3 fi;
			pad = ((t % C) + l > C -> C - (t % C) : 0);
			(t + pad + l + SPARE <= head + C && pn <= 3);
#ifndef SAIDSTAYS
			d_step { if :: known != g -> said = 0; known = g :: else fi };
#endif
			if :: said -> same[num+1] = 1 :: true fi;
			d_step {
				sent++;
				num++;
				to[num] = g + 4 * me;
				said = 1;
#ifdef HINTEARLY
				put(0, HINT, t + pad + l, 1);
				lasthint = t + pad + l;
#endif
				if
				:: pad -> put(t + pad, (t + pad) % C, 0, 0); put(t, t % C, PAD + pad, 1); t = t + pad
				:: else
				fi;
				put(t + 1, (t + 1) % C, BODY + num, 0);
				if
				:: l == 3 -> put(t + 2, (t + 2) % C, BODY + num, 0)
				:: else
				fi;
#if !defined(NOZERO) && !defined(ZEROLATE)
				put(t + l, (t + l) % C, 0, 0);
#endif
				prnum[pn] = num;
#ifdef HDRPLAIN
				put(t, t % C, l, 0);
#else
				put(t, t % C, l, 1);
#endif
#ifdef ZEROLATE
				put(t + l, (t + l) % C, 0, 0);
#endif
				t = t + l
			};
			if
			:: t - lasthint < 3
			:: pn < B -> d_step {
#ifdef HINTPLAIN
				put(0, HINT, t, 0);
#else
				put(0, HINT, t, 1);
#endif
				lasthint = t }
			fi;
again:			l = 0; pad = 0; g = 0
		:: else -> break
		od;
		sdone = 1
	} unless {
		skill -> d_step {
			skill = 0; l = 0; pad = 0; g = 0; said = 0; known = 0; same[num+1] = 0;
			do :: pn > 0 -> pn--; pa[pn] = 0; pv[pn] = 0; pp[pn] = 0; prel[pn] = 0; prnum[pn] = 0
			   :: else -> break od };
		if :: sdone -> skip :: else -> goto join fi
	}
}

inline parse()		/* h was read at position r and is not 0 */
{
	assert(h < BODY && r < gtail && gpos[r % C] == r)
}

active proctype receiver()
{
	byte r, h, b, c, last, o, heard;
	goto serve;
join:	skip;
#ifdef LIVEFIRST
	rst = LIVE;
#endif
#ifdef RWALKHINT
	r = hint;
#else
	r = head;
#endif
	do
	:: h = mem[r % C];
		if
		:: h == 0 -> break
		:: else -> d_step { parse(); r = r + LEN(h); h = 0 }
		fi
	od;
	skip;
	d_step { assert(r >= head); head = r };
#ifndef LIVEFIRST
	rst = LIVE;
#endif
serve:	{
		do
		:: atomic { mem[r % C] == 0 && head != r -> head = r }
		:: atomic { mem[r % C] == 0 && head == r && sdone && pn == 0 -> break }
#ifdef NOACQ
		:: 1 ->
			b = mem[(r + 1) % C];
			c = mem[(r + 2) % C];
			h = mem[r % C];
			if :: h == 0 -> goto next :: else fi;
			d_step { parse() };
#else
		:: mem[r % C] != 0 ->
			d_step { h = mem[r % C]; parse() };
#ifdef HEADEARLY
			head = r + LEN(h);
#endif
			b = mem[(r + 1) % C];
			c = mem[(r + 2) % C];
#endif
			d_step {
				if
				:: h < PAD ->
					assert(b == BODY + gnum[r % C] && (h == 2 || c == b));
					b = b - BODY;
					o = (same[b] -> heard : to[b]);
					heard = o;
#ifndef NOGENCHECK
					if
					:: (o & 3) == rgen ->
#endif
						assert(TO(b) == rgen && o == to[b]);
						assert(b > last);
						last = b; got[rgen]++
#ifndef NOGENCHECK
					:: else
					fi
#endif
				:: else
				fi;
				r = r + LEN(h)
			};
			if :: head = r :: skip fi;
next:			skip;
			d_step { h = 0; b = 0; c = 0; o = 0 }
		od;
		goto fin
	} unless {
		rkill -> d_step { rkill = 0; h = 0; b = 0; c = 0; r = 0; o = 0; heard = 0 };
		rst = FREE;						/* reaped */
		d_step { rgen++; rst = GRANTED };			/* reissued */
		goto join
	};
fin:	assert(got[rgen] == pub[rgen] && r == gtail)
}

active proctype killer()
{
	byte ks, kr;
end:	do
	:: ks < KS && !skill && !sdone -> d_step { ks++; skill = 1 }
	:: kr < KR && !rkill -> d_step { kr++; rkill = 1 }
	od
}
