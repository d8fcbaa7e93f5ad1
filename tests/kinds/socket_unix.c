// SPDX-License-Identifier: Apache-2.0
/* Unix listeners and a datagram socket by absolute, relative and abstract names: the names are the
 * same to the last byte, and lead to the process. */
#include <dirent.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "subject.h"

static struct sockaddr_un addr[4];
static socklen_t addr_len[4];
static int fds[4];

static void named(int i, int type, const char *name, size_t n)
{
	addr[i].sun_family = AF_UNIX;
	memcpy(addr[i].sun_path, name, n);
	addr_len[i] = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	fds[i] = socket(AF_UNIX, type, 0);
	CHECK(fds[i] >= 0);
	CHECK(bind(fds[i], (struct sockaddr *)&addr[i], addr_len[i]) == 0);
	if (type != SOCK_DGRAM)
		CHECK(listen(fds[i], 4 + i) == 0);
}

static void reached(int i, int type)
{
	int client = socket(AF_UNIX, type, 0), server = fds[i];
	struct sockaddr_un now = { 0 };
	struct ucred cred = { 0 };
	socklen_t len = sizeof(now);
	char buf[8];

	CHECK(getsockname(fds[i], (struct sockaddr *)&now, &len) == 0);
	CHECK(memcmp(&now, &addr[i], sizeof(now)) == 0);
	/* The file is put into place when the process may be running already. */
	for (int tries = 0; connect(client, (struct sockaddr *)&addr[i], addr_len[i]) < 0;
		tries++) {
		CHECK(tries < 2000 && (errno == ECONNREFUSED || errno == ENOENT));
		subject_sleep_ms(1);
	}
	if (type != SOCK_DGRAM)
		server = accept(fds[i], NULL, NULL);
	CHECK(server >= 0);
	CHECK(send(client, "hello", 5, 0) == 5 && recv(server, buf, 8, 0) == 5);
	if (type == SOCK_DGRAM)
		return;
	len = sizeof(cred);
	CHECK(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0);
	CHECK(cred.pid == getpid() && cred.uid == getuid());
	close(server);
	close(client);
}

static int hidden_in(const char *dir)
{
	DIR *d = opendir(dir);
	int n = 0;

	CHECK(d);
	for (const struct dirent *de; (de = readdir(d));)
		n += de->d_name[0] == '.' && strcmp(de->d_name, ".") && strcmp(de->d_name, "..");
	closedir(d);
	return n;
}

/* Whether it was moved or not: no helper file is left beside ours. */
static void left_clean(void)
{
	for (int tries = 0; hidden_in(".") + hidden_in("sub") > 0; tries++) {
		CHECK(tries < 2000);
		subject_sleep_ms(1);
	}
}

int main(void)
{
	char dir[80], path[108];
	struct stat st;

	if (!getcwd(dir, sizeof(dir)))
		SKIP("the directory's name is too long for a socket");
	(void)snprintf(path, sizeof(path), "%s/absolute.sock", dir);
	CHECK(mkdir("sub", 0755) == 0);
	named(0, SOCK_STREAM, path, strlen(path));
	named(1, SOCK_SEQPACKET, "./sub//relative", 15);
	named(2, SOCK_STREAM, "\0subject\0socket_unix", 20);
	named(3, SOCK_DGRAM, "datagrams", 9);
	CHECK(chmod(path, 0600) == 0);

	subject_wait_moved();

	reached(0, SOCK_STREAM);
	reached(1, SOCK_SEQPACKET);
	reached(2, SOCK_STREAM);
	reached(3, SOCK_DGRAM);
	CHECK(stat(path, &st) == 0 && (st.st_mode & 07777) == 0600);
	left_clean();
	return subject_ok();
}
