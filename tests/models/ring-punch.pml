/* ring-punch.pml: the data pages of a pair are given back while both slots are free; then both get new owners.
 *
 * Modelled: one-cell records; lazy hint and head left behind by the dead; a reaper under the control lock, killed at any
 * step and run again: walks from max(hint, head) to the true tail T, stores hint := T, head := T, and then
 * punches (all cells 0). Then sender and receiver join in any order (each walks) and NREC records are sent.
 *
 * Property: both agree on the place; all records arrive.
 *
 * holds:
 * fails: -DNOSETTLE
 * fails: -DHINTONLY
 *
 * NOSETTLE punch and leave the positions as they are; HINTONLY the head stays where the dead left it.
 */
#define C 4
#define NREC 3
byte mem[C], hint, head, tail, got, kills;
bit ready;
#define MAX(a, b) ((a) > (b) -> (a) : (b))
inline punch() { d_step { i = 0; do :: i < C -> mem[i] = 0; i++ :: else -> break od; i = 0 } }

active proctype dead_and_reaper()
{
	byte i, t;
	/* what the dead left: tail somewhere, hint and head lazy, records between head and tail */
	do
	:: tail < 6 && tail + 2 <= head + C && tail + 2 <= hint + C ->
		d_step { mem[(tail + 1) % C] = 0; mem[tail % C] = tail + 1; tail++ }
	:: hint < tail -> hint = tail
	:: head < tail -> head++
	:: break
	od;
again:	{
		t = MAX(hint, head);
		do
		:: mem[t % C] != 0 -> t++
		:: else -> break
		od;
#ifndef NOSETTLE
		hint = t;
#ifndef HINTONLY
		head = t;
#endif
#endif
		punch();
		goto out
	} unless { atomic { kills == 1 -> kills = 2 }; i = 0; t = 0; goto again };
out:	ready = 1
}
active proctype killer() { end: if :: !ready && kills == 0 -> kills = 1 :: ready -> kills = 3 fi }

active proctype sender()
{
	byte t, n;
	(ready);
	t = MAX(hint, head);
	do :: mem[t % C] != 0 -> t++ :: else -> break od;
	do
	:: n < NREC && t + 2 <= head + C -> mem[(t + 1) % C] = 0; mem[t % C] = t + 1; t++; n++
	:: n == NREC -> break
	od
}
active proctype receiver()
{
	byte r;
	(ready);
	r = head;
	do :: got < NREC -> (mem[r % C] != 0); assert(mem[r % C] == r + 1); r++; got++; head = r
	:: else -> break od
}
