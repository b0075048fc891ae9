/* service.pml: the bootstrap service changes hands: election, adoption, end of a bus.
 *
 * Modelled: the files of a bus by name (`lockf`, `busf`: which incarnation the name leads to, 0: none); the two locks of
 * each incarnation of the lock file (election, control), dropped by the kernel at death; regions with their slots
 * and the word `closing`. Two services, each started once at any moment: opens or makes the lock file, takes the
 * election lock or gives up, looks whether the file is still the one of that name, takes the control lock, looks again,
 * judges the region: not closing and lived in: adopts it; else makes a new one; then serves: grants slots under the
 * control lock, takes grants back, reaps, and ends the bus when it is empty (control lock, no busy slot, closing := 1, bus and lock
 * file unlinked). Two clients: open the region, are granted a slot by a service of that very region, CAS JOINING,
 * look at `closing` and at the name, become LIVE or give the slot up; leave: LEFT, control lock, reap, and the last
 * one that can take the election lock ends the bus in the same way. KS services and KC clients are killed at any step.
 * Each step is one call or one access.
 *
 * The control lock is not to be had in time if its holder is stopped: a service then adopts a bus that is not closing, or
 * gives up and takes its lock file away if there is no bus. The last leaver takes the election lock before it ends a bus.
 *
 * Properties: two living nodes are in one region, the one that has the name; whoever serves serves the files that have the
 * names, alone; a region that is being closed is served to nobody; who is granted a slot by a living service is not
 * turned away for ever; no deadlock.
 *
 * holds: -DKS=1 -DKC=0
 * holds: -DKS=0 -DKC=1
 * fails: -DNOELECT
 * fails: -DNOCURRENT
 * fails: -DNOCLOSING
 * fails: -DNOLIVED
 * fails: -DBUSYEARLY
 * fails: -DLEAVERBLIND
 * fails: -DLEAVERLOOKS
 * fails: -DADOPTHELD
 *
 * NOELECT no election lock; NOCURRENT nobody looks whether the lock file still has its name; NOCLOSING a closing region is
 * adopted; NOLIVED a region is replaced without a look who lives in it; BUSYEARLY who ends a bus counts the busy slots
 * before he has the control lock; LEAVERBLIND the last leaver does not look for a service; LEAVERLOOKS it looks, and does not
 * take the election lock; ADOPTHELD a service without the control lock adopts a closing region too.
 *
 * Since the last leaver takes the election lock, spin finds no way on which a service needs the control lock to judge
 * a region, or the look at the name of its lock file before it takes that away: they stand for files that somebody
 * deletes by hand.
 */
#ifndef KS
#define KS 1
#endif
#ifndef KC
#define KC 0
#endif
#define NL 5				/* incarnations of the lock file, from 1 */
#define NR 5				/* of the region, from 1 */
#define FREE 0
#define GRANTED 1
#define JOINING 2
#define LIVE 3
#define LEFT 4

byte lockf, busf, locks, regions;
byte elect[NL], control[NL];		/* who holds it; services 1 and 2, clients 3 and 4, 0 nobody */
byte slot[NR * 2];			/* slot of client c in region r: slot[r*2+c] */
bit closing[NR];
byte serves[3];				/* ghost and rendezvous: region that this service serves, 0: none */
byte asks[2];				/* region for which client c asks for a slot */
bit dead[5];				/* services 1, 2; clients 3, 4 */
bit skill[3], ckill[2];

#define ALIVE(r, c) (slot[(r)*2+(c)] != FREE && slot[(r)*2+(c)] != LEFT && !dead[3+(c)])
#define BUSY(r) (slot[(r)*2] != FREE || slot[(r)*2+1] != FREE)
#define REAP(r) if :: slot[(r)*2] == LEFT || (slot[(r)*2] != FREE && dead[3]) -> slot[(r)*2] = FREE :: else fi; \
	if :: slot[(r)*2+1] == LEFT || (slot[(r)*2+1] != FREE && dead[4]) -> slot[(r)*2+1] = FREE :: else fi

/* opens the lock file, made if there is none */
#define OPENLOCK(l) d_step { if :: lockf == 0 -> locks++; assert(locks < NL); lockf = locks :: else fi; l = lockf }

/* with the control lock c held: the bus of region r is empty and ends */
inline end_bus(r)
{
	closing[r] = 1;
	if
	:: busf == r -> busf = 0; lockf = 0
	:: else
	fi
}

#define GRANT atomic { control[c] == 0 -> control[c] = me }; \
	d_step { \
		if \
		:: asks[i] == r -> \
			assert(busf == r && lockf == c && !closing[r]); \
			if :: slot[r*2+i] == FREE -> slot[r*2+i] = GRANTED; asks[i] = 0 :: else fi \
		:: else \
		fi }; \
	d_step { control[c] = 0; c = 0; i = 0 }

/* the lock file of a service that gives up, if there is no bus */
#define DISCARD if :: l == lockf -> if :: busf == 0 -> lockf = 0 :: else fi :: else fi

proctype service(byte me)
{
	byte l, c, r, i, tries; bit idle, held;
	{	skip;
again:		skip;
		d_step { l = 0; c = 0; r = 0; idle = 0; held = 0 };
		tries++;
		if
		:: tries > 2 -> goto out
		:: else
		fi;
		OPENLOCK(l);
#ifndef NOELECT
		if
		:: atomic { elect[l] == 0 -> elect[l] = me }
		:: elect[l] != 0 -> goto out			/* there is a service */
		fi;
#endif
#ifndef NOCURRENT
		if
		:: l != lockf -> d_step { if :: elect[l] == me -> elect[l] = 0 :: else fi }; goto again
		:: l == lockf
		fi;
#endif
		OPENLOCK(c);
		if
		:: atomic { control[c] == 0 -> control[c] = me; held = 1 }
		:: control[c] != 0					/* its holder is stopped */
		fi;
#ifndef NOCURRENT
		if
		:: l != lockf ->
			DISCARD;
			d_step { if :: elect[l] == me -> elect[l] = 0 :: else fi; if :: control[c] == me -> control[c] = 0 :: else fi };
			goto again
		:: l == lockf
		fi;
#endif
		r = busf;
		if
#ifdef NOCLOSING
		:: r != 0 && (!held || ALIVE(r, 0) || ALIVE(r, 1) || closing[r])
#elif defined(NOLIVED)
		:: r != 0 && !closing[r] && !held
#elif defined(ADOPTHELD)
		:: r != 0 && (!held || (!closing[r] && (ALIVE(r, 0) || ALIVE(r, 1))))
#else
		:: r != 0 && !closing[r] && (!held || ALIVE(r, 0) || ALIVE(r, 1))
#endif
		:: else ->
			if
			:: held -> d_step { regions++; assert(regions < NR); r = regions; busf = r }
			:: !held -> DISCARD; elect[l] = 0; goto out
			fi
		fi;
		d_step { if :: c != 0 && control[c] == me -> control[c] = 0 :: else fi; c = 0 };
		d_step { assert(serves[3 - me] == 0); serves[me] = r };
		do
		:: d_step { asks[0] == r && lockf != 0 -> i = 0; c = lockf };
			GRANT
		:: d_step { asks[1] == r && lockf != 0 -> i = 1; c = lockf };
			GRANT
		:: d_step { slot[r*2] == GRANTED && dead[3] -> slot[r*2] = FREE }	/* a grant is taken back */
		:: d_step { slot[r*2+1] == GRANTED && dead[4] -> slot[r*2+1] = FREE }
		:: d_step { (slot[r*2] == LEFT || slot[r*2] > GRANTED && dead[3]) && lockf != 0 && control[lockf] == 0 ->
			slot[r*2] = FREE }
		:: d_step { (slot[r*2+1] == LEFT || slot[r*2+1] > GRANTED && dead[4]) && lockf != 0 && control[lockf] == 0 ->
			slot[r*2+1] = FREE }
		:: !BUSY(r) && asks[0] != r && asks[1] != r ->				/* lingered: ends the bus */
#ifdef BUSYEARLY
			idle = !BUSY(r);
#endif
			c = lockf;
			if
			:: c == 0 -> skip
			:: else ->
				atomic { control[c] == 0 -> control[c] = me };
#ifndef BUSYEARLY
				idle = !BUSY(r);
#endif
				if
				:: idle -> serves[me] = 0; end_bus(r)
				:: else
				fi;
				d_step { control[c] = 0; c = 0 }
			fi;
			if
			:: idle -> goto out
			:: else
			fi
		od;
out:		skip
	} unless { skill[me] -> goto fin };
fin:	skip;
	d_step {
		dead[me] = 1; serves[me] = 0;
		i = 0;
		do
		:: i < NL -> if :: elect[i] == me -> elect[i] = 0 :: else fi; if :: control[i] == me -> control[i] = 0 :: else fi; i++
		:: else -> break
		od;
		i = 0 }
}

proctype client(byte me)
{
	byte r, c, i, tries, x; bit last;
	x = 3 + me;
	{	skip;
again:		skip;
		d_step { r = 0; c = 0; asks[me] = 0; tries++ };
		if
		:: tries > 2 -> goto out
		:: else
		fi;
		if
		:: atomic { busf != 0 -> r = busf }
		:: busf == 0 -> goto out				/* no bus */
		fi;
		asks[me] = r;
		if
		:: slot[r*2+me] == GRANTED
		:: atomic { slot[r*2+me] != GRANTED && serves[1] != r && serves[2] != r -> asks[me] = 0 }; goto again
		fi;
		if
		:: d_step { slot[r*2+me] == GRANTED -> slot[r*2+me] = JOINING }
		:: d_step { slot[r*2+me] != GRANTED -> skip } goto again
		fi;
		if
		:: d_step { closing[r] || busf != r -> assert(serves[1] != r && serves[2] != r) };
			slot[r*2+me] = LEFT;
			goto again
		:: d_step { !closing[r] && busf == r -> skip }
		fi;
		slot[r*2+me] = LIVE;
		d_step { assert(busf == r && !closing[r]); tries = 0 };	/* lives: the others find it there */
		assert(busf == r && !closing[r]);
		slot[r*2+me] = LEFT;
		/* leaves */
		c = lockf;
		if
		:: c == 0 -> goto out					/* the bus was ended meanwhile */
		:: else
		fi;
#ifdef BUSYEARLY
		last = !BUSY(r) || slot[r*2+1-me] == FREE;
#endif
		atomic { control[c] == 0 -> control[c] = x };
		d_step { REAP(r) };
#ifndef BUSYEARLY
		last = !BUSY(r);
#endif
		if
#ifdef LEAVERBLIND
		:: last -> end_bus(r)
#elif defined(LEAVERLOOKS)
		:: last && elect[c] == 0 -> end_bus(r)
#else
		:: atomic { last && elect[c] == 0 -> elect[c] = x };
			if
			:: c == lockf -> end_bus(r)
			:: else
			fi
#endif
		:: else
		fi;
		d_step { control[c] = 0; if :: elect[c] == x -> elect[c] = 0 :: else fi; c = 0 };
out:		skip
	} unless { ckill[me] -> goto fin };
fin:	skip;
	d_step {
		if :: ckill[me] -> dead[x] = 1 :: else fi;
		asks[me] = 0;
		i = 0;
		do
		:: i < NL -> if :: elect[i] == x -> elect[i] = 0 :: else fi; if :: control[i] == x -> control[i] = 0 :: else fi; i++
		:: else -> break
		od;
		i = 0 }
}

active proctype killer()
{
	byte ks, kc;
end:	do
	:: ks < KS && !skill[1] && !dead[1] -> d_step { ks++; skill[1] = 1 }
	:: ks < KS && !skill[2] && !dead[2] -> d_step { ks++; skill[2] = 1 }
	:: kc < KC && !ckill[0] -> d_step { kc++; ckill[0] = 1 }
	od
}

init { atomic { run service(1); run service(2); run client(0); run client(1) } }
