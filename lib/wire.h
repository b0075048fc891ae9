/* wire.h: the fixed-size exchange between a joining process and the service. Level 1.
 *
 *	client                                   service
 *	HELLO {proof offset c}            ->
 *	                                  <-     CHALLENGE {uuid, proof offset s}, holding c
 *	checks who holds c; takes s
 *	PROVED                            ->
 *	                                         reads who holds s: the client's true pid; grants
 *	                                  <-     GRANT {slot, generation, pid} or REFUSAL {error}
 *
 * No secret passes: what counts is who holds the kernel locks. All messages are 64 bytes, little
 * endian.
 */
#ifndef RINGBUS_WIRE_H
#define RINGBUS_WIRE_H

#include "base.h"

#define WIRE_MAGIC 0x31305342u /* "BS01" */
#define WIRE_BYTES 64u

enum wire_kind {
	WIRE_HELLO = 1,
	WIRE_CHALLENGE = 2,
	WIRE_PROVED = 3,
	WIRE_GRANT = 4,
	WIRE_REFUSAL = 5
};

struct wire_message {
	uint32_t magic;
	uint32_t kind;
	uint64_t signature; /* layout_signature() */
	uint8_t uuid[16];   /* of the region; HELLO: the one that the client has opened */
	uint64_t proof_offset;
	uint32_t slot;
	uint32_t generation;
	uint32_t pid;
	uint32_t error; /* REFUSAL: errno code */
	uint64_t reserved;
};
_Static_assert(sizeof(struct wire_message) == WIRE_BYTES, "wire");

#endif
