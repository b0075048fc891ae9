/* ring-resync.pml: a pair whose content was spoiled, and how it heals.
 *
 * Modelled: a ring of C one-cell records. A corrupting store puts garbage, or 0, into any cell of
 * the ring (KB times, also while nobody owns the sender's slot). Sender and receiver are killed and
 * replaced. Words: the sender's S {answered, start, lost}, the receiver's R {asked, position}.
 * Only the receiver starts anew, since only it knows how far it has read:
 *  - receiver, at a record that is not valid, or at 0 although the hint is beyond its position, or
 *    at 0 when S says lost: R := {asked + 1, position + C}, and reads no more until S answers it;
 *  - sender, before each emission and when it finds the ring full: asked != answered: 0 at the header of
 *    position, S := {asked, position}, hint := position, goes on there; a full ring and a close make it store the hint;
 *  - sender's successor: asked != answered: the same; else walks from max(hint, head, start) to 0; at a
 *    record that is not valid it sets S lost and sends nothing until it is asked;
 *  - a sender that reads a head beyond its tail sets S lost too;
 *  - receiver, answered: position := start, head := start. Positions only grow.
 *  - receiver's successor: asked != answered: waits for the answer like its predecessor; else walks from
 *    max(head, start); at a record that is not valid it asks.
 * Sender and receiver check the position in each record (here: a cell holds position + 1).
 * Compact records leave their owners out: after an answer the sender writes a full one first, for a receiver that
 * has asked believes in nobody until it reads one.
 *
 * Properties: asked <= spoilings + deaths (no livelock); nothing is taken for a record that was not
 * published at this position; what is sent after the last spoiling and the last answer arrives, in
 * order, once; no deadlock (all that is sent ends in delivery or in a resync).
 *
 * holds: -DKB=0
 * holds:
 * fails: -DNOHINT
 * fails: -DNOHEAD
 * fails: -DNOZERO
 * fails: -DACKFIRST
 * fails: -DNOWAIT
 * fails: -DSAMEPOS
 * fails: -DBOTH
 * fails: -DSAIDSTAYS
 *
 * NOHINT the receiver does not compare the hint; NOHEAD a sender does not compare the head with its tail; NOZERO the
 * sender does not clear the header at the new start; ACKFIRST S before that 0; NOWAIT the receiver reads on before the
 * answer; SAMEPOS R := {asked + 1, position}, and the hint stays; BOTH the successor starts anew by itself; SAIDSTAYS
 * the first record after an answer is compact.
 */
#ifndef C
#define C 3
#endif
#ifndef NREC
#define NREC 5
#endif
#ifndef KB
#define KB 1
#endif
#ifndef KS
#define KS 1
#endif
#ifndef KR
#define KR 1
#endif
#define BAD 255
#ifdef SAMEPOS
#define AHEAD 0
#else
#define AHEAD C
#endif

byte mem[C];				/* position + 1 of the record, 0, or BAD */
bit same[C];				/* the record there leaves its owners out */
byte hint, head;
byte s_ans, s_start; bit s_lost;	/* the sender's word, one store */
byte r_ask, r_pos;			/* the receiver's word, one store */

byte nbad, ndead, sent;			/* ghosts */
byte safe;				/* ghost: records published after the last spoiling was answered */
byte got;				/* ghost: of these, delivered */
bit clean = 1;				/* ghost: nothing spoiled since the last answer */
byte lastp; bit sdone, skill, rkill;

#define MAX(a, b) ((a) > (b) -> (a) : (b))
#ifdef NOHINT
#define BEYOND 0
#else
#define BEYOND (hint > r)
#endif
#define VALID(p) (mem[(p) % C] == (p) + 1)

active proctype sender()
{
	byte t, lasthint, h;
	bit lost, said;
	goto serve;
join:	skip;
	d_step {
		h = 0;
		if
		:: r_ask != s_ans -> h = 1
		:: else
		fi
	};
	if
	:: h -> h = 0; lost = 0
	:: else ->
		d_step {
			t = MAX(hint, head); t = MAX(t, s_start); lost = 0;
			h = t + C;
			do
			:: t < h && VALID(t) -> t++
			:: else -> break
			od;
			if
			:: mem[t % C] != 0 -> lost = 1
			:: else
			fi;
			h = 0; lasthint = hint
		};
#ifdef BOTH
		if
		:: lost -> t = head; mem[t % C] = 0; d_step { s_ans = s_ans + 1; s_start = t; lost = 0; lasthint = 0 }
		:: else
		fi;
#endif
		s_lost = lost
	fi;
serve:	{
		do
		:: r_ask != s_ans ->				/* answer */
			d_step { h = r_ask; t = r_pos };
			assert(t % C < C);
#ifdef ACKFIRST
			d_step { s_ans = h; s_start = t; s_lost = 0; lost = 0; clean = (nbad == KB); safe = 0; got = 0 };
			mem[t % C] = 0;
#else
#ifndef NOZERO
			mem[t % C] = 0;
#endif
			d_step { s_ans = h; s_start = t; s_lost = 0; lost = 0; clean = (nbad == KB); safe = 0; got = 0 };
#endif
#ifndef SAMEPOS
			hint = t;
#endif
#ifndef SAIDSTAYS
			said = 0;
#endif
			d_step { h = 0; lasthint = hint }
		:: d_step { r_ask == s_ans && !lost && sent < NREC && t + 2 <= MAX(head, s_start) + C -> skip };
			mem[(t + 1) % C] = 0;
			if :: said -> same[t % C] = 1 :: same[t % C] = 0 fi;
			said = 1;
			d_step { mem[t % C] = t + 1; t++; sent++;
				if :: clean && nbad == KB -> safe++ :: else fi };
			if
			:: t - lasthint >= 1 -> hint = t; lasthint = t
			:: t - lasthint < 2
			fi
#ifndef NOHEAD
		:: d_step { head > t && r_ask == s_ans && !lost -> lost = 1; s_lost = 1 }
#endif
		:: d_step { hint < t && !lost && r_ask == s_ans && (sent == NREC || t + 2 > MAX(head, s_start) + C) -> hint = t; lasthint = t }
		:: atomic { sent == NREC && r_ask == s_ans && hint >= t && !lost -> break }
		od;
		sdone = 1;
end:		do		/* closed in the end, but goes on answering; its slot has an owner */
		:: r_ask != s_ans -> d_step { t = r_pos; mem[t % C] = 0; s_ans = r_ask; s_start = t; s_lost = 0; hint = MAX(hint, t); lost = 0; safe = 0; got = 0; clean = (nbad == KB) }
#ifndef NOHEAD
		:: d_step { head > t && r_ask == s_ans && !lost -> lost = 1; s_lost = 1 }
#endif
		od
	} unless { skill -> d_step { skill = 0; t = 0; h = 0; lasthint = 0; lost = 0; said = 0 }; goto join }
}

active proctype receiver()
{
	byte r, h; bit heard;
	goto serve;
join:	skip;
	if
	:: r_ask != s_ans -> goto waiting
	:: else
	fi;
	r = MAX(head, s_start);
	do
	:: d_step { VALID(r) ->
			if :: !same[r % C] -> heard = 1 :: else fi;	/* as if this receiver had read it */
			if :: clean && nbad == KB && r >= lastp -> got++; lastp = r + 1 :: else fi; r++ }
	:: else -> break
	od;
	head = r;
serve:	skip;
end:	{
end1:		do
		:: d_step { VALID(r) ->
				if :: !same[r % C] -> heard = 1 :: else fi;
				if :: heard && clean && nbad == KB && r >= lastp -> got++; lastp = r + 1 :: else fi;
				r++ };
			if :: head = r :: skip fi
		:: mem[r % C] == 0 && head != r && r_ask == s_ans -> head = r
		:: !VALID(r) && (mem[r % C] != 0 || s_lost || BEYOND) ->
			if
			:: d_step { !VALID(r) && (mem[r % C] != 0 || s_lost || BEYOND) ->
				r_pos = r + AHEAD; r_ask++; heard = 0 }
				assert(r_ask <= nbad + ndead)
			:: else -> goto next
			fi;
#ifndef NOWAIT
waiting:
endw:			(s_ans == r_ask);
			r = s_start;
			head = r;
#else
waiting:		r = r_pos
#endif
next:			skip
		od
	} unless { rkill -> d_step { rkill = 0; r = 0; h = 0 }; goto join }
}

active proctype killer()
{
	byte c, ks, kr;
end:	do
	:: ks < KS && !skill && !sdone -> d_step { ks++; ndead++; skill = 1 }
	:: kr < KR && !rkill && !sdone -> d_step { kr++; ndead++; rkill = 1 }
	:: nbad < KB && !sdone ->
		if :: c = 0 :: c = 1 :: c = C - 1 fi;
		if
		:: d_step { mem[c] = BAD; nbad++; clean = 0 }
		:: d_step { mem[c] = 0; nbad++; clean = 0 }
		fi;
		c = 0
	od
}

/* when nothing can move any more */
active proctype check()
{
end:	timeout -> assert(r_ask == s_ans && !s_lost && hint == head && (!clean || got == safe))
}
