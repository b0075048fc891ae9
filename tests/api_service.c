/* api_service.c: who owns the listening socket that is handed to a service. */
#include "harness.h"

#include "deny_syscall.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>

static int listening(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)bus_port()),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	child_check(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	child_check(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	child_check(listen(fd, 1) == 0);
	return fd;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* The last step of opening fails: to watch the socket. */
static void fails_to_watch(uint64_t unused)
{
	struct ringbus_service_options o = {.size = sizeof(o), .listen_fd = listening()};
	struct ringbus_service *service = NULL;

	child_check(deny_syscall(SYS_epoll_ctl, ENOMEM, 2, true, (uint32_t)o.listen_fd));
	child_fails(ringbus_service_open(&service, &o), -ENOMEM);
	child_check(!service && is_open(o.listen_fd));
	_exit(0);
}

static void refuses_and_serves(uint64_t unused)
{
	struct ringbus_service_options o = {.size = sizeof(o), .listen_fd = listening()};
	struct ringbus_service *service = NULL;

	o.nodes = 1;
	child_fails(ringbus_service_open(&service, &o), -EINVAL);
	child_check(!service && is_open(o.listen_fd));
	o.nodes = 4;
	child_ok(ringbus_service_open(&service, &o));
	child_check(is_open(o.listen_fd));
	ringbus_service_close(service);
	child_check(!is_open(o.listen_fd));
	_exit(0);
}

static void a_listening_socket_is_the_services_once_that_is_open(void **state)
{
	child_join(child_start(fails_to_watch, 0));
	child_join(child_start(refuses_and_serves, 0));
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(a_listening_socket_is_the_services_once_that_is_open),
};

HARNESS_MAIN("api_service", tests)
