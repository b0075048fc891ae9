/* probes.h: static trace points for perf, bpftrace, SystemTap and gdb; the only user of sys/sdt.h.
 * Level 0.
 *
 * Built with the header (meson feature `usdt`), a probe is one nop in the code and a note in the
 * ELF file that says where it is and where its arguments are; a tracer replaces the nop while it
 * listens. Built without, it is nothing, and its arguments are not evaluated either way but for
 * what the compiler has at hand: pass plain integers, no calls with effects. Nothing in the library
 * may depend on a probe. ringbus(7) lists them; names and arguments are not part of the ABI's
 * promise, but new arguments are added at the end.
 *
 *   join(port, slot, generation)
 *       A node has become LIVE.
 *   leave(port, slot, generation)
 *       It is not LIVE any more, by its own doing.
 *   publish(from, to, event, size)
 *       A message was published in the ring between two slots. event is the index in the event
 *       table, RB_PROBE_CONTACT for a direct message; size is of the payload, in bytes.
 *   deliver(from, to, event, size)
 *       It is given to a handler, or was pulled.
 *   drop(from, to, event, size, why)
 *       It was not: one of enum probe_drop.
 *   wait(word, epoch, timeout_ns)
 *       Goes to sleep in a doorbell. word is its address in this process.
 *   woken(word, epoch, result)
 *       Is awake again: 0, or a negative errno code.
 *   wake(word, epoch)
 *       Makes a wake call for that epoch of a doorbell.
 */
#ifndef RINGBUS_PROBES_H
#define RINGBUS_PROBES_H

#include <stdbool.h>
#include <stdint.h>

#define RB_PROBE_CONTACT UINT32_MAX

enum probe_drop {
	PROBE_DROP_LOSSY = 1,	     /* by the sender: a lossy receiver had no room */
	PROBE_DROP_GONE = 2,	     /* by the sender: the receiver was gone at publication */
	PROBE_DROP_UNSUBSCRIBED = 3, /* by the receiver: nobody here wants it */
};

#ifdef RINGBUS_USDT
#include <sys/sdt.h>
#define RB_PROBE2(name, a, b) STAP_PROBE2(ringbus, name, a, b)
#define RB_PROBE3(name, a, b, c) STAP_PROBE3(ringbus, name, a, b, c)
#define RB_PROBE4(name, a, b, c, d) STAP_PROBE4(ringbus, name, a, b, c, d)
#define RB_PROBE5(name, a, b, c, d, e) STAP_PROBE5(ringbus, name, a, b, c, d, e)
#else
/* The arguments are used, so that no variable or function is unused without the header, and cost
 * nothing. */
#define RB_PROBE2(name, a, b) ((void)(false ? (a) + (b) : 0))
#define RB_PROBE3(name, a, b, c) ((void)(false ? (a) + (b) + (c) : 0))
#define RB_PROBE4(name, a, b, c, d) ((void)(false ? (a) + (b) + (c) + (d) : 0))
#define RB_PROBE5(name, a, b, c, d, e) ((void)(false ? (a) + (b) + (c) + (d) + (e) : 0))
#endif

#define PROBE_JOIN(port, slot, generation) RB_PROBE3(join, port, slot, generation)
#define PROBE_LEAVE(port, slot, generation) RB_PROBE3(leave, port, slot, generation)
#define PROBE_PUBLISH(from, to, event, size) RB_PROBE4(publish, from, to, event, size)
#define PROBE_DELIVER(from, to, event, size) RB_PROBE4(deliver, from, to, event, size)
#define PROBE_DROP(from, to, event, size, why) RB_PROBE5(drop, from, to, event, size, why)
#define PROBE_WAIT(word, epoch, timeout_ns) RB_PROBE3(wait, (uintptr_t)(word), epoch, timeout_ns)
#define PROBE_WOKEN(word, epoch, result) RB_PROBE3(woken, (uintptr_t)(word), epoch, result)
#define PROBE_WAKE(word, epoch) RB_PROBE2(wake, (uintptr_t)(word), epoch)

#endif
