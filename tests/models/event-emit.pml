/* event-emit.pml: one emission to two receivers is all or nothing, with deaths and new owners.
 *
 * Modelled: one emitter, an event with a mask of two bits, two rings of CAP records. An emission: a snapshot of the
 * mask; then for each receiver the slot word: no owner: skipped; another owner than the one known: that one is known
 * now, and all begins anew with a new snapshot; then room; then, when nothing can fail any more, publication to all.
 * Full = nobody gets it; a retry reads the mask and the generations again. Receivers are killed at any
 * step; a reaper clears the dead one's mask bit, then frees the slot; the next owner walks, publishes
 * its position, becomes LIVE, subscribes (sometimes). A killed receiver's ring stays full until then. The emitter
 * may be killed between two publications.
 *
 * Properties: an emission that returns success has reached every receiver that was LIVE and subscribed
 * from before it began until after it ended (same generation), once; one that returns EAGAIN reached
 * nobody; an owner gets nothing from before its subscription; nothing unread is overwritten; records are read only
 * by the generation that they name; an emitter that retries does not wait for ever for the dead (deadlock check).
 *
 * holds:
 * holds: -DKR=2 -DNMSG=1
 * fails: -DONEBYONE
 * fails: -DNOGENCHECK
 * fails: -DHEADBACK
 * fails: -DNOREAP
 * fails: -DOLDMASK
 * fails: -DFREEFIRST
 *
 * ONEBYONE room and publication receiver by receiver; NOGENCHECK the receiver takes any generation; HEADBACK the next
 * owner starts behind the head; NOREAP nobody reaps; OLDMASK a new owner is sent to by the mask that was read before it
 * was known; FREEFIRST the slot is free before the mask bit of the dead is cleared.
 */
#ifndef CAP
#define CAP 1
#endif
#ifndef NMSG
#define NMSG 2
#endif
#ifndef KR
#define KR 1
#endif
#define LOG 6

mtype = { DEAD, FREE, LIVE };
mtype st[2] = LIVE; byte gen[2] = 1;	/* slot words; DEAD looks LIVE to the emitter */
bit mask[2] = 1;
byte head[2], tail[2], rg[2*LOG];	/* rings; record: generation of the receiver */
byte priv[2], prev[2];
byte since[2] = 1;			/* ghost: generation that is subscribed now, 0: none */
bit rkill[2], skill, sdone;
#define CUR(r) (st[r] != FREE)

active proctype emitter()
{
	byte g[2], w[2], old[2], known[2] = 1, n, r; bit m[2], nofit;
	{
		do
		:: n < NMSG ->
			d_step { w[0] = since[0]; w[1] = since[1]; old[0] = tail[0]; old[1] = tail[1] };
retry:			skip;
			atomic { m[0] = mask[0]; m[1] = mask[1] };
			nofit = 0;
			r = 0;
			do
			:: r < 2 ->
				g[r] = 0;
				if
				:: m[r] ->
					atomic { g[r] = (CUR(r) -> gen[r] : 0) };
					if
					:: g[r] && g[r] != known[r] ->
						known[r] = g[r];
#ifndef OLDMASK
						g[0] = 0; g[1] = 0;
						goto retry
#endif
					:: else
					fi;
					if
					:: g[r] && tail[r] - head[r] >= CAP -> nofit = 1; break
					:: else
#ifdef ONEBYONE
						if :: g[r] -> d_step { rg[r*LOG+tail[r]] = g[r]; tail[r]++ } :: else fi
#endif
					fi
				:: else
				fi;
				r++
			:: else -> break
			od;
			if
			:: nofit ->
				assert(tail[0] == old[0] && tail[1] == old[1]);	/* nobody got it */
				/* a retry, by the room doorbell or by reaping */
				(head[r] + CAP > tail[r] || st[r] == FREE || !mask[r]);
				goto retry
			:: else
			fi;
			r = 0;
#ifndef ONEBYONE
			do
			:: r < 2 ->
				if
				:: g[r] -> d_step {
					assert(tail[r] - head[r] < CAP);		/* room only grows */
					assert(!(st[r] == LIVE && gen[r] == g[r]) || since[r] == g[r]);
					rg[r*LOG+tail[r]] = g[r]; tail[r]++ }
				:: else
				fi;
				r++
			:: else -> break
			od;
#endif
			skip;
			d_step {
				assert(!(w[0] && w[0] == since[0]) || (tail[0] == old[0] + 1 && rg[tail[0]-1] == since[0]));
				assert(!(w[1] && w[1] == since[1]) || (tail[1] == old[1] + 1 && rg[LOG+tail[1]-1] == since[1]));
				n++; r = 0; g[0] = 0; g[1] = 0; m[0] = 0; m[1] = 0; w[0] = 0; w[1] = 0; old[0] = 0; old[1] = 0
			}
		:: else -> break
		od
	} unless { skill };
	sdone = 1
}

proctype receiver(byte me)
{
	byte h;
	goto serve;
join:	skip;
	h = head[me];
	do
	:: h < tail[me] -> h++
	:: else -> break
	od;
#ifdef HEADBACK
	head[me] = (h > 0 -> h - 1 : 0);
#else
	head[me] = h;
#endif
	d_step { priv[me] = head[me]; h = 0; st[me] = LIVE };
	if
	:: atomic { mask[me] = 1; since[me] = gen[me] }		/* subscribes */
	:: skip
	fi;
serve:	skip;
end:	{
end1:		do
		:: d_step { priv[me] < tail[me] ->
#ifndef NOGENCHECK
			if
			:: rg[me*LOG+priv[me]] == gen[me] ->
#endif
				assert(rg[me*LOG+priv[me]] == gen[me])
#ifndef NOGENCHECK
			:: else
			fi
#endif
			;
			priv[me]++ }
		:: head[me] != priv[me] -> head[me] = priv[me]
		od
	} unless { rkill[me] -> d_step { rkill[me] = 0; h = 0; since[me] = 0; st[me] = DEAD } };
	(st[me] == FREE);
	gen[me]++;
	goto join
}

#ifndef NOREAP
active proctype reaper()
{
end:	do
#ifdef FREEFIRST
	:: st[0] == DEAD -> st[0] = FREE; mask[0] = 0
	:: st[1] == DEAD -> st[1] = FREE; mask[1] = 0
#else
	:: st[0] == DEAD -> mask[0] = 0; st[0] = FREE
	:: st[1] == DEAD -> mask[1] = 0; st[1] = FREE
#endif
	od
}
#endif

active proctype killer()
{
	byte kr; bit ks;
end:	do
	:: kr < KR && !rkill[0] && st[0] == LIVE && since[0] -> d_step { kr++; rkill[0] = 1 }
	:: kr < KR && !rkill[1] && st[1] == LIVE && since[1] -> d_step { kr++; rkill[1] = 1 }
	:: !ks && !sdone -> d_step { ks = 1; skill = 1 }
	od
}

init { atomic { run receiver(0); run receiver(1) } }
