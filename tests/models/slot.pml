/* slot.pml: one slot word, its live lock, clients, service and peers that reap: how a slot is reissued.
 *
 * Modelled: the slot word (state, generation, process) as one word; the live lock (one holder, the
 * kernel drops it at death; -DACCIDENT: once also while its holder lives); the control lock (same);
 * one service (killed once, successor adopts what it finds) that grants, and voids a grant after a
 * timeout, that is: at any moment; NP peers and the service's own reaping. A client waits for its
 * grant, takes the live lock, takes the slot by CAS GRANTED -> JOINING, writes receive positions,
 * sets LIVE, lives, closes (LIVE -> LEFT by CAS, reaps under the control lock, then drops the live lock) or is
 * killed at any step. "Writes" stands for any store to words that belong to the owner of the slot.
 * A prover takes no lock: reads the word, finds the live lock free, finds the recorded process gone,
 * looks at the word again, CAS from exactly that word to DEAD. A reaper, with the control lock held: reads
 * the word again, DEAD or LEFT: cleans up (borrow bits, masks, events), CAS to FREE with the
 * generation. Either may be killed at each step.
 *
 * Properties: at most one process writes the slot's words; nothing of a living owner is marked dead, cleaned
 * up or freed; a slot is granted only when it has been cleaned up; no living owner is reported LOST unless its
 * lock was dropped by accident (then it is reported and not reused); when nobody is left alive the slot ends
 * FREE; no deadlock.
 *
 * holds:
 * holds: -DKC=2 -DNP=2 -DKP=0
 * holds: -DACCIDENT
 * fails: -DNOCAS
 * fails: -DSTALE
 * fails: -DFREEFIRST
 * fails: -DACCIDENT -DLOCKONLY
 * fails: -DLOCKLATE
 * fails: -DNOPID
 * fails: -DMARKSTORE
 * pan: -DCOLLAPSE
 *
 * NOCAS LIVE by plain store; STALE the reaper decides before it has the control lock; FREEFIRST it frees, then cleans;
 * LOCKONLY a free live lock counts as death; LOCKLATE the live lock is taken after the CAS: false LOST; NOPID the
 * process is recorded by the client after the CAS; MARKSTORE DEAD is stored over whatever stands there.
 */
#ifndef NCL
#define NCL 2
#endif
#ifndef NP
#define NP 1
#endif
#ifndef KC
#define KC 1				/* kills of clients */
#endif
#ifndef KSV
#define KSV 1				/* kills of the service */
#endif
#ifndef KP
#define KP 1				/* kills of peers while they reap */
#endif
#ifndef NV
#define NV 1				/* grants voided although the client still wants them */
#endif
#define NOBODY 0			/* clients are 1..NCL, service 9, peers 10.. */

mtype = { FREE, GRANTED, JOINING, LIVE, LEFT, DEAD };
mtype st = FREE; byte gen, who;		/* the slot word */
byte rec;				/* recorded process (pid, start time, pidfd inode) */
byte livelock, ctl;			/* kernel locks */
byte grantto;				/* the service's reply: client; it carries the generation */
byte grantgen, want;
bool alive[NCL+1] = 1, wr[NCL+1], own[NCL+1], fin[NCL+1];
bool ckill[NCL+1], skill, pkill[NP], svdead, dropped;
byte ndone, nvoid;
bit adopted;				/* grants of the dead service may be voided at once */
bit dirty;				/* ghost: an owner's bits, masks, events are still there */

#define SOLE(c) (wr[1] + wr[2] == wr[c])
#define GARBAGE (st == DEAD || st == LEFT)
#define OWNED (alive[1] && own[1] || alive[2] && own[2])

proctype client(byte me)
{
	byte g;
	{
		skip;
again:		skip;
		/* asks over TCP; an answer that is lost with the service is asked for again */
		atomic { want == NOBODY -> want = me };
		do
		:: atomic { grantto == me -> g = grantgen; grantto = NOBODY; break }
		:: atomic { want == NOBODY && grantto != me -> want = me }
		od;
#ifndef LOCKLATE
		/* polls to its deadline: a client that lost its grant drops the lock */
		atomic { livelock == NOBODY || livelock == me -> livelock = me };
#endif
#ifdef NOCAS
		if
		:: st == GRANTED && gen == g && who == me -> skip
		:: else -> goto lost
		fi;
		d_step { st = LIVE; gen = g; who = me; own[me] = 1 };
#else
		if
		:: d_step { st == GRANTED && gen == g && who == me -> own[me] = 1; dirty = 1;
			st = JOINING }
		:: d_step { !(st == GRANTED && gen == g && who == me) -> skip } goto lost
		fi;
#endif
#ifdef LOCKLATE
		(livelock == NOBODY || livelock == me);
		livelock = me;
#endif
#ifdef NOPID
		rec = me;
#endif
		d_step { wr[me] = 1; assert(SOLE(me)) };		/* walks its rings, publishes positions */
		d_step { wr[me] = 0; assert(st == JOINING || st == LIVE); st = LIVE };
		assert(SOLE(me) && st == LIVE && gen == g && who == me);	/* lives */
		/* close: LEFT without a lock, reaps under the control lock, then drops the live lock */
		d_step { assert(st == LIVE && gen == g && who == me); own[me] = 0; st = LEFT };
		atomic { ctl == NOBODY -> ctl = me };
		if
		:: GARBAGE ->
			d_step { g = gen; assert(!OWNED); dirty = 0 };
			d_step { if :: GARBAGE && gen == g -> st = FREE; who = NOBODY :: else fi }
		:: else
		fi;
		ctl = NOBODY;
		if :: livelock == me -> livelock = NOBODY :: else fi;
		goto out;
lost:		if :: livelock == me -> livelock = NOBODY :: else fi;
		goto again
	} unless {
		atomic { ckill[me] -> alive[me] = 0; own[me] = 0; wr[me] = 0;
			if :: livelock == me -> livelock = NOBODY :: else fi;
			if :: ctl == me -> ctl = NOBODY :: else fi;
			if :: want == me -> want = NOBODY :: else fi;
			if :: grantto == me -> grantto = NOBODY :: else fi }
	};
out:	skip;
	d_step { fin[me] = 1; ndone++ }
}

#define SUSPECT ((st == LIVE || st == JOINING) && livelock == NOBODY)
#ifdef LOCKONLY
#define GONE(p) 1
#else
#define GONE(p) (!alive[p])
#endif

/* without a lock: word, live lock, record, process, word again, mark. p: the word's owner as read. */
inline prove()
{
	if
	:: d_step { st == LIVE || st == JOINING -> g = gen; s = st }
	:: !(st == LIVE || st == JOINING) -> goto end
	fi;
	if
	:: livelock != NOBODY -> d_step { g = 0; s = 0 }; goto end
	:: livelock == NOBODY
	fi;
	p = rec;
	if
	:: GONE(p)
	:: !GONE(p) ->						/* LOST: reported if the word is still the same */
		d_step { assert(!(st == s && gen == g) || dropped); g = 0; s = 0; p = 0 };
		goto end
	fi;
#ifdef MARKSTORE
	d_step { assert(!OWNED); st = DEAD; g = 0; s = 0; p = 0 }
#else
	d_step {
		if
		:: st == s && gen == g -> assert(!OWNED); st = DEAD
		:: else
		fi;
		g = 0; s = 0; p = 0 }
#endif
}

/* under the control lock, held by `self` */
inline reap(self)
{
#ifdef STALE
	if
	:: d_step { GARBAGE -> g = gen }
	:: !GARBAGE -> goto end
	fi;
	atomic { ctl == NOBODY -> ctl = self };
#else
	if
	:: atomic { GARBAGE && ctl == NOBODY -> ctl = self }
	:: !GARBAGE -> goto end
	fi;
	if
	:: d_step { GARBAGE -> g = gen }
	:: d_step { !GARBAGE -> skip } ctl = NOBODY; goto end
	fi;
#endif
#ifdef FREEFIRST
	d_step { GARBAGE && gen == g -> assert(!OWNED); st = FREE; who = NOBODY };
	d_step { assert(!OWNED); dirty = 0 };
#else
	assert(!OWNED);						/* cleans up: borrow bits */
	d_step { assert(!OWNED); dirty = 0 };			/* masks, events */
	if
	:: d_step { GARBAGE && gen == g -> assert(!OWNED); st = FREE; who = NOBODY }
	:: d_step { !(GARBAGE && gen == g) -> skip }
	fi;
#endif
	d_step { g = 0; ctl = NOBODY }
}

active [NP] proctype peer()
{
	byte g, p; mtype s;
end:	{
		if
		:: SUSPECT -> prove()
		:: GARBAGE -> reap(10 + _pid)
		fi;
		goto end
	} unless {
		atomic { pkill[_pid] -> pkill[_pid] = 0; g = 0; p = 0; s = 0;
			if :: ctl == 10 + _pid -> ctl = NOBODY :: else fi };
		goto end						/* another one comes */
	}
}

active proctype service()
{
	byte g, p; mtype s;
end:	{
end2:		do
		/* grant: identity first, then the word, then the reply; holder of the control lock */
		:: atomic { want != NOBODY && st == FREE && ctl == NOBODY -> ctl = 9 };
			if
			:: atomic { st == FREE && want != NOBODY -> g = want };
#ifndef NOPID
				rec = g;
#endif
				d_step { assert(!dirty); gen++; st = GRANTED; who = g };
				if
				:: atomic { want == g && grantto == NOBODY -> want = NOBODY; grantto = g; grantgen = gen }
				:: want != g -> skip			/* connection ended */
				fi;
				g = 0
			:: else
			fi;
			ctl = NOBODY
		/* timeout of a grant, after 1 s: any time */
		:: atomic { st == GRANTED && ctl == NOBODY && (nvoid < NV || !alive[who] || want == who || adopted) ->
				ctl = 9; g = gen; if :: !alive[who] || want == who || adopted -> skip :: else -> nvoid++ fi };
			if
			:: d_step { st == GRANTED && gen == g -> st = FREE; who = NOBODY }
			:: d_step { !(st == GRANTED && gen == g) -> skip }
			fi;
			d_step { g = 0; adopted = 0; ctl = NOBODY }
		:: SUSPECT -> prove()
		:: GARBAGE && ctl == NOBODY -> break
		od;
		reap(9);
		goto end
	} unless {
		atomic { skill -> skill = 0; g = 0; p = 0; s = 0; adopted = 1; grantto = NOBODY; want = NOBODY;
			if :: ctl == 9 -> ctl = NOBODY :: else fi };
		goto end						/* a new one adopts */
	}
}

active proctype killer()
{
	byte kc, ks, kp;
end:	do
	:: kc < KC && !ckill[1] && !fin[1] -> d_step { kc++; ckill[1] = 1 }
	:: kc < KC && !ckill[2] && !fin[2] -> d_step { kc++; ckill[2] = 1 }
	:: ks < KSV && !skill -> d_step { ks++; skill = 1 }
	:: d_step { kp < KP && ctl >= 10 && !pkill[ctl - 10] -> kp++; pkill[ctl - 10] = 1 }
#ifdef ACCIDENT
	:: d_step { !dropped && livelock != NOBODY && own[livelock] -> dropped = 1; livelock = NOBODY }
#endif
	od
}

/* when nothing can move any more */
active proctype check()
{
end:	timeout -> assert(st == FREE)
}

init { atomic { run client(1); run client(2) } }
