/* event-table.pml: one event entry under the control lock, killed holders, lock-free emission.
 *
 * Modelled: one entry: the word (generation, mode, owner), one 64-bit store, and the mask of
 * subscribers; the control lock (dropped at death); an intent record that names the entry. Slots 0..2. Slot 0
 * creates, emits NEM times and dissolves; slot 1 subscribes (looking the name up under the lock), checks what
 * it gets, unsubscribes or not, subscribes again; slot 2 creates the event too when it can (new name, or
 * takeover of an orphan: same generation, subscriptions stay) and emits. Each control operation: lock,
 * repair, intent, steps, intent void, unlock. To repair is to settle the entry that stands in the intent: a free
 * one has no mask, an orphan without subscriptions is freed; the rest is left to the reaper of the dead
 * holder. To free an entry: word free with the next generation, then the mask. KC processes are killed at any
 * step and reaped (lock, repair, intent, clear the mask bit, an event that it owned becomes an orphan, settle,
 * intent void; slot free). Emission takes no lock: the word (rights, generation), then the mask, then the
 * record with the entry's generation. The receiver delivers what names the generation of its private
 * subscription, which it installs before the mask bit is set.
 * A ghost counts incarnations of the event (a takeover is none).
 *
 * Properties: what is delivered belongs to the incarnation subscribed to; a subscriber that is there from
 * before an emission until after it gets it once; nothing current is
 * dropped while the mask bit stands; when nothing moves, the intent is void and the entry is free
 * with an empty mask, or has a living owner, or is an orphan with living subscribers.
 *
 * holds:
 * holds: -DNR=2 -DKC=0
 * fails: -DNOBUMP
 * fails: -DBITFIRST
 * fails: -DNOREPAIR
 * fails: -DTAKEBUMP
 * fails: -DNOSETTLE
 * fails: -DMASKSTAYS
 *
 * NOBUMP reuse keeps the generation; BITFIRST the mask bit before the private subscription; NOREPAIR the next holder does not
 * look at the intent; TAKEBUMP a takeover starts a new generation; NOSETTLE who takes a subscriber away does not look for an
 * orphan without subscriptions; MASKSTAYS the mask is cleared by nobody.
 */
#ifndef NEM
#define NEM 1				/* emissions per creation */
#endif
#ifndef KC
#define KC 1
#endif
#ifndef NR
#define NR 1				/* creations by slot 0 */
#endif
#define NOONE 7

mtype = { NONE, CREATE, SUB, UNSUB, DISSOLVE };
mtype iop = NONE; byte islot;			/* intent record */
bit used; byte gen = 1, owner = NOONE;		/* the entry's word */
bit mask[3];
byte ctl = NOONE;				/* control lock */
byte sub[3];					/* private: generation subscribed, 0: none */
bool alive[3] = 1, reaped[3];
bit kill[3];
byte inc, subinc;				/* ghosts: incarnation of the event; that subscribed by slot 1 */
bit stable;					/* ghost: slot 1 is subscribed, subscribe has returned */
byte epoch;					/* ghost: changes of `stable` */
chan ring[3] = [2] of { byte, byte };		/* from slot 0 and 2 to slot 1: generation, incarnation */
byte pubs[3];					/* ghost: copies published by the emission that runs */
byte emdone;

inline lock(me) { atomic { ctl == NOONE -> ctl = me } }
inline unlock() { ctl = NOONE }

inline docreate(s)
{
	if
	:: used && owner != NOONE -> skip			/* -EEXIST */
	:: used && owner == NOONE ->				/* takeover */
#ifdef TAKEBUMP
		d_step { owner = s; gen++ }
#else
		owner = s
#endif
	:: !used -> d_step { used = 1; owner = s; inc++ }	/* name, then the word */
	fi
}
inline dofree()
{
#ifdef NOBUMP
	d_step { used = 0; owner = NOONE };
#else
	d_step { if :: used -> gen++ :: else fi; used = 0; owner = NOONE };
#endif
#ifndef MASKSTAYS
	mask[1] = 0
#else
	skip
#endif
}
inline settle()			/* an orphan without subscriptions is freed; a free entry has no mask */
{
	if
	:: !used -> dofree()
#ifndef NOSETTLE
	:: used && owner == NOONE && !mask[1] -> dofree()
#endif
	:: else
	fi
}
inline repair()
{
	skip;
#ifndef NOREPAIR
	if
	:: iop != NONE -> settle(); iop = NONE
	:: else
	fi
#else
	iop = NONE
#endif
}
inline intend(op, s) { d_step { islot = s; iop = op } }

inline emit(me)
{
	d_step { st0 = stable; ep = epoch; pubs[me] = 0 };
#ifdef MASKFIRST
	m = mask[1];
#endif
	atomic { used && owner == me -> g = gen; i = inc }
#ifndef MASKFIRST
	;
	m = mask[1]
#endif
	;
	if
	:: m -> atomic { ring[me]!g,i; pubs[me]++ }
	:: else
	fi;
	d_step { assert(!(st0 && stable && ep == epoch && subinc == i) || pubs[me] == 1);
		st0 = 0; ep = 0; g = 0; i = 0; m = 0 }
}

proctype emitter(byte me)
{
	byte n, g, i, ep; bit m, st0;
	{
		do
		:: n < (me == 0 -> NR : 1) ->
			lock(me);
			repair();
			if
			:: !used || owner == NOONE -> intend(CREATE, me); docreate(me); iop = NONE
			:: else
			fi;
			unlock();
			if
			:: used && owner == me ->
				emit(me);
#if NEM > 1
				emit(me);
#endif
				lock(me);
				repair();
				intend(DISSOLVE, me);
				dofree();
				iop = NONE;
				unlock()
			:: else
			fi;
			n++
		:: else -> break
		od;
		goto out
	} unless { atomic { kill[me] -> alive[me] = 0; g = 0; i = 0; m = 0; st0 = 0; ep = 0; n = 0;
		if :: ctl == me -> ctl = NOONE :: else fi } };
out:	emdone++
}

proctype subscriber(byte me)
{
	byte n, g, i;
	{
		do
		:: n < 2 ->
			lock(me);
			repair();
			if
			:: used ->
				intend(SUB, me);
#ifdef BITFIRST
				mask[me] = 1;
				d_step { sub[me] = gen; subinc = inc; stable = 0; epoch++ };
#else
				d_step { sub[me] = gen; subinc = inc; stable = 0; epoch++ };
				mask[me] = 1;
#endif
				iop = NONE;
				d_step { ctl = NOONE; if :: sub[me] == gen && used -> stable = 1; epoch++ :: else fi };
				if
				:: skip
				:: lock(me);
					d_step { stable = 0; epoch++ };
					repair();
					if
					:: used && gen == sub[me] -> intend(UNSUB, me); mask[me] = 0; settle(); iop = NONE
					:: else
					fi;
					sub[me] = 0;
					unlock()
				fi
			:: else -> unlock()
			fi;
			n++
		:: else -> break
		od;
end:		(0)
	} unless { atomic { kill[me] -> alive[me] = 0; sub[me] = 0; stable = 0; subinc = 0; n = 0;
		if :: ctl == me -> ctl = NOONE :: else fi } }
}

/* the dispatching thread of slot 1 */
inline take(r)
{
	ring[r]?g,i;
	if
	:: sub[1] == g -> assert(i == subinc)
	:: sub[1] != g -> assert(!(used && inc == i && mask[1] && alive[1]))	/* dropped */
	fi;
	g = 0; i = 0
}
active proctype dispatch()
{
	byte g, i;
end:	do
	:: d_step { nempty(ring[0]) -> take(0) }
	:: d_step { nempty(ring[2]) -> take(2) }
	od
}

active proctype reaper()
{
	byte r;
end:	do
	:: d_step { !alive[0] && !reaped[0] -> r = 0 } goto reap
	:: d_step { !alive[1] && !reaped[1] -> r = 1 } goto reap
	:: d_step { !alive[2] && !reaped[2] -> r = 2 } goto reap
	od;
reap:	lock(5);
	repair();
	intend(UNSUB, r);
	mask[r] = 0;
	if
	:: used && owner == r -> owner = NOONE
	:: else
	fi;
	settle();
	iop = NONE;
	reaped[r] = 1;
	unlock();
	r = 0;
	goto end
}

active proctype killer()
{
	byte k;
end:	do
	:: k < KC && !kill[0] -> d_step { k++; kill[0] = 1 }
	:: k < KC && !kill[1] -> d_step { k++; kill[1] = 1 }
	:: k < KC && !kill[2] -> d_step { k++; kill[2] = 1 }
	od
}

/* when nothing can move any more */
active proctype check()
{
end:	timeout ->
	assert(ctl == NOONE && iop == NONE);
	assert(used || (!mask[1] && owner == NOONE));
	assert(!used || owner != NOONE || mask[1]);
	assert(owner == NOONE || alive[owner]);
	assert(!mask[1] || alive[1])
}

init { atomic { run emitter(0); run subscriber(1); run emitter(2) } }
