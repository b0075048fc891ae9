/* peer.h: is the owner of a slot alive; proof of access to the region. Level 3.
 *
 * Live lock: the owner of slot s holds a POSIX write lock on byte s of PORT.live. The kernel drops
 * it at death; fork does not inherit it. Held means alive; free means suspicion, and then the
 * recorded pid, start time and pidfd inode decide. Proof: a one-shot POSIX write lock at a random
 * offset of the region file, which only a process that can write the file can take, and whose
 * holder F_OFD_GETLK names by its true pid.
 *
 * Process ids are those of the service's pid namespace. Who cannot see them there, and everybody of
 * an owner that the service could not see, leaves it to the service while there is one, and without
 * one goes by the live lock alone: free, and free again a moment later.
 *
 * Where pidfd_open() is denied (sandboxes, emulators) a process is its id and start time in /proc,
 * and has ended when the id is gone, a zombie's, or another's. No pidfd wakes the service then: it
 * finds a death at its next look, within a second, or whoever the dead holds back does.
 */
#ifndef RINGBUS_PEER_H
#define RINGBUS_PEER_H

#include "region.h"

struct peer_identity {
	uint32_t pid; /* 0: in a pid namespace that we cannot see */
	uint32_t uid;
	uint64_t start_time;  /* 0: hidden from us */
	uint64_t pidfd_inode; /* 0: the kernel has no unique ones */
};

enum peer_life {
	PEER_ALIVE,
	PEER_DEAD, /* the kernel says so */
	PEER_LOST, /* live lock free, but the process runs: reported, never reaped */
};

/* Identity of a running process; *pidfd (may be NULL) gets a descriptor, or -1 where there are
 * none. -ESRCH. */
int peer_identify(uint32_t pid, struct peer_identity *id, int *pidfd);
/* Life of the owner that `word`, read from the slot before, names. */
enum peer_life peer_check(struct region *region, uint32_t slot, uint64_t word);
/* Takes the live lock of a slot. -EBUSY: another process holds it. Caller holds region->life. */
int peer_live_take(struct region *region, uint32_t slot);
void peer_live_drop(struct region *region, uint32_t slot);
/* Pid that holds the live lock; 0: nobody; -1: somebody whose pid we cannot see. */
int32_t peer_live_holder(struct region *region, uint32_t slot);

/* A random offset for a proof, behind any file size and below 2^62. */
uint64_t peer_proof_offset(void);
int peer_proof_take(struct region *region, uint64_t offset);
void peer_proof_drop(struct region *region, uint64_t offset);
/* As peer_live_holder(), for a proof. Where the kernel does not tell: nobody for a proof, somebody
 * for a live lock. */
int32_t peer_proof_holder(struct region *region, uint64_t offset);

/* membarrier and pidfd as the kernel gives them; test hooks can deny each:
 * RINGBUS_TEST_DENY=membarrier,pidfd_inode,... is read only in builds with RINGBUS_HOOKS. */
bool peer_denied(const char *facility);

#endif
