/* fault_kill_points.c: a process dies at each kill point of the library; the others go on, and the
 * region is sound.
 *
 * A kill point stands between two stores of a protocol (KILL_POINT in lib/). The victim dies at the
 * n-th passage of one point; afterwards all slots are free again, a newcomer gets through to
 * everybody, and the outside checker finds nothing. Most points are passed by a node on a fixed
 * course of all operations; the others by a node that mends a spoiled pair or buries another, and
 * by a service. A point that its victim never passes fails, and so does one that is not in the
 * list.
 */
#include "kill_victims.h"

#include <dirent.h>

static const struct point {
	const char *name;
	void (*die)(void);
} points[] = {
	{"X_BELL_ASLEEP", die_on_the_course},	 {"X_BELL_MARKED", die_on_the_course},
	{"X_BORROW_BIT", die_on_the_course},	 {"X_BORROW_CLEARED", die_on_the_course},
	{"X_BUS_CLOSING", die_closing},		 {"X_BUS_UNLINKED", die_closing},
	{"X_BUS_UNLINKED", die_leaving},	 {"X_CONTROL_INTENT", die_on_the_course},
	{"X_DEATH_MARKED", die_burying},	 {"X_EMIT_PUBLISHED", die_on_the_course},
	{"X_EMIT_UNWOKEN", die_on_the_course},	 {"X_EVENT_BITS", die_on_the_course},
	{"X_EVENT_FREED", die_on_the_course},	 {"X_EVENT_NAMED", die_on_the_course},
	{"X_EVENT_WORD", die_on_the_course},	 {"X_EXTENT_ALLOCATED", die_on_the_course},
	{"X_GRANT_RECORDED", die_granting},	 {"X_JOIN_CLAIMED", die_on_the_course},
	{"X_JOIN_LOCKED", die_on_the_course},	 {"X_JOIN_WALKED", die_on_the_course},
	{"X_LEAVE_CLOSING", die_leaving},	 {"X_LEAVE_ELECTED", die_leaving},
	{"X_LEAVE_LAST", die_leaving},		 {"X_LEFT_MARKED", die_on_the_course},
	{"X_NOTICE_EPOCH", die_on_the_course},	 {"X_NOTICE_EPOCH", die_burying},
	{"X_PAIR_BIT", die_on_the_course},	 {"X_PAIR_NAMED", die_on_the_course},
	{"X_POOL_BYTES", die_on_the_course},	 {"X_REAP_CLEANED", die_on_the_course},
	{"X_REAP_CLEANED", die_burying},	 {"X_RECLAIM_HEAD", die_on_the_course},
	{"X_RECLAIM_PUNCHED", die_burying},	 {"X_RECLAIM_STARTS", die_granting},
	{"X_RESYNC_ANSWERED", die_mending},	 {"X_RESYNC_POSITION", die_mending},
	{"X_RESYNC_ZERO", die_mending},		 {"X_RING_BODY", die_on_the_course},
	{"X_RING_HEAD", die_on_the_course},	 {"X_RING_PAD", die_on_the_course},
	{"X_RING_PUBLISHED", die_on_the_course}, {"X_SIGNAL_COUNTED", die_on_the_course},
};

#define POINTS (sizeof(points) / sizeof(points[0]))

static bool die_once(const struct point *point, unsigned hit)
{
	for (unsigned flag = READY; flag <= PREY; flag++)
		flag_set(flag, 0);
	target = point->name;
	target_hit = hit;
	point->die();
	return flag_get(GONE_ON) == 0;
}

static void a_death_at_a_kill_point_costs_the_others_nothing(void **state)
{
	for (unsigned i = 0; i < POINTS; i++) {
		unsigned hit = 0;

		watchdog(60);
		bus_serve(&geometry); /* a new bus: extents are made once */
		/* the first three passages, and one in the middle of the stream */
		while (hit < 3 && die_once(&points[i], hit + 1))
			hit++;
		if (hit == 3)
			die_once(&points[i], 40);
		print_message("%s: died %u times\n", points[i].name, hit);
		if (hit == 0)
			fail_msg("its victim never passes %s", points[i].name);
		bus_check();
		bus_stop();
	}
}

static bool is_listed(const char *name, size_t bytes)
{
	for (unsigned i = 0; i < POINTS; i++)
		if (strlen(points[i].name) == bytes && memcmp(points[i].name, name, bytes) == 0)
			return true;
	return false;
}

/* How many kill points a source has; those that are not in the list are named. */
static unsigned scan_source(const char *path, unsigned *unlisted)
{
	static const char call[] = "KILL_POINT(\"";
	FILE *file = fopen(path, "re");
	char line[512];
	unsigned n = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		for (const char *name = line; (name = strstr(name, call));) {
			size_t bytes;

			name += strlen(call);
			bytes = strcspn(name, "\"");
			n++;
			if (is_listed(name, bytes))
				continue;
			print_error("%s: %.*s is not in the list\n", path, (int)bytes, name);
			++*unlisted;
		}
	}
	fclose(file);
	return n;
}

static void the_list_has_every_kill_point_of_the_sources(void **state)
{
	const char *source = getenv("RINGBUS_SOURCE");
	unsigned n = 0, unlisted = 0;
	char path[1024];
	struct dirent *entry;
	DIR *dir;

	if (!source) {
		print_message("SKIPPED: RINGBUS_SOURCE does not say where the sources are\n");
		skip();
	}
	snprintf(path, sizeof(path), "%s/lib", source);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		const char *end = strrchr(entry->d_name, '.');

		if (!end || (strcmp(end, ".c") != 0 && strcmp(end, ".h") != 0))
			continue;
		snprintf(path, sizeof(path), "%s/lib/%s", source, entry->d_name);
		n += scan_source(path, &unlisted);
	}
	closedir(dir);
	assert_true(n > 0);
	assert_int_equal(unlisted, 0);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(the_list_has_every_kill_point_of_the_sources),
	BARE_TEST(a_death_at_a_kill_point_costs_the_others_nothing),
};

HARNESS_MAIN("fault_kill_points", tests)
