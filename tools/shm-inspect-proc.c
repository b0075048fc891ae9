/* shm-inspect-proc.c: what /proc says of a process. */
#include "shm-inspect-doctor.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void take_line(struct process *p, const char *line)
{
	unsigned number;
	if (sscanf(line, "Name:\t%31[^\n]", p->command) == 1)
		p->exists = true;
	else if (sscanf(line, "Uid:\t%*u\t%u", &number) == 1)
		p->uid = number;
	else if (sscanf(line, "TracerPid:\t%u", &number) == 1)
		p->tracer = number;
	else if (sscanf(line, "Seccomp:\t%u", &number) == 1)
		p->seccomp = number;
	else
		sscanf(line, "State:\t%c", &p->state);
}

void process_look(uint32_t pid, struct process *p)
{
	char path[40], line[256];
	FILE *f;
	*p = (struct process){.state = '?'};
	snprintf(path, sizeof path, "/proc/%u/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		take_line(p, line);
	if (f)
		fclose(f);
	/* a zombie has ended */
	if (p->state == 'Z' || p->state == 'X')
		p->exists = false;
}

static bool parse_mapping(char *line, struct mapped *m)
{
	static const char mark[] = " (deleted)";
	char *path;
	size_t length;
	if (sscanf(line, "%*s %*s %*s %*s %" SCNu64, &m->inode) != 1)
		return false;
	path = strchr(line, '/');
	if (!path)
		return false;
	path[strcspn(path, "\n")] = 0;
	length = strlen(path);
	m->deleted = length > sizeof mark && strcmp(path + length - sizeof mark + 1, mark) == 0;
	if (m->deleted)
		path[length -= sizeof mark - 1] = 0;
	if (length < 5 || strcmp(path + length - 4, ".bus") != 0)
		return false;
	snprintf(m->path, sizeof m->path, "%s", path);
	return true;
}

int process_buses(uint32_t pid, struct mapped *list, int capacity)
{
	char path[40], line[1024];
	struct mapped m;
	int n = 0;
	FILE *f;
	snprintf(path, sizeof path, "/proc/%u/maps", pid);
	f = fopen(path, "re");
	if (!f)
		return -1;
	while (fgets(line, sizeof line, f)) {
		bool known = false;
		if (!parse_mapping(line, &m))
			continue;
		for (int i = 0; i < n; i++)
			known |= list[i].inode == m.inode;
		if (!known && n < capacity)
			list[n++] = m;
	}
	fclose(f);
	return n;
}
