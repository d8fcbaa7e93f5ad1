// SPDX-License-Identifier: Apache-2.0
/* Addresses of interfaces, between two network namespaces: ours and that of a child, which is the
 * neighbour. */
#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "kernel/netaddr.h"
#include "kernel/netlock.h"
#include "netns.h"
#include "tests/kernel/check.h"

#include <cmocka.h>

static pid_t neighbour;

/* A command, in the neighbour's namespace if `there`. */
static int run(bool there, const char *command)
{
	char line[640];
	int status;

	if (there)
		snprintf(line, sizeof(line), "nsenter -t %d -n %s", neighbour, command);
	else
		snprintf(line, sizeof(line), "%s", command);
	status = system(line);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void must(bool there, const char *command)
{
	if (run(there, command))
		fail_msg("%s", command);
}

static struct net_ip ip(const char *text)
{
	struct net_ip v;

	assert_true(net_ip_parse(text, &v));
	return v;
}

static bool find(const char *text, struct net_address *ret)
{
	autoarena struct arena *a = arena_new();
	struct net_ip want = ip(text);
	struct net_address *v;
	size_t n;

	ok(netaddr_list(a, &v, &n));
	for (size_t i = 0; i < n; i++)
		if (net_ip_equal(&v[i].ip, &want)) {
			*ret = v[i];
			return true;
		}
	return false;
}

static void texts(unused_arg void **state)
{
	struct net_end e = { ip("fd00::1"), 80 };
	struct net_ip v;
	char buf[NET_END_TEXT];

	assert_string_equal(net_end_text(&e, buf), "[fd00::1]:80");
	e.ip = ip("10.0.0.1");
	assert_string_equal(net_end_text(&e, buf), "10.0.0.1:80");
	assert_false(net_ip_parse("10.0.0", &v) || net_ip_parse("", &v) || net_ip_parse("x", &v) ||
		     net_ip_parse("10.0.0.1/32", &v) || net_ip_parse("fd00::1%lo", &v));
	v = ip("::1");
	assert_true(net_ip_is_loopback(&v));
	v = ip("127.9.9.9");
	assert_true(net_ip_is_loopback(&v) && !net_ip_is_any(&v));
	v = ip("0.0.0.0");
	assert_true(net_ip_is_any(&v));
}

static void same(const struct net_address *a, const struct net_address *b)
{
	assert_true(net_ip_equal(&a->ip, &b->ip));
	assert_int_equal(a->prefix, b->prefix);
	assert_int_equal(a->scope, b->scope);
	assert_int_equal(a->index, b->index);
	assert_string_equal(a->label, b->label);
	assert_int_equal(a->metric, b->metric);
	assert_int_equal(a->proto, b->proto);
	assert_int_equal(a->preferred == UINT32_MAX, b->preferred == UINT32_MAX);
	assert_int_equal(a->has_peer, b->has_peer);
	assert_int_equal(a->has_broadcast, b->has_broadcast);
	assert_int_equal(a->valid == UINT32_MAX, b->valid == UINT32_MAX);
}

static bool is_local(const struct net_ip *v)
{
	bool local;

	ok(netaddr_is_local(v, &local));
	return local;
}

/* Taken away and put back it is what it was. */
static void there_and_back(const char *text, bool known)
{
	struct net_address before, after;
	struct net_ip v = ip(text);
	bool was_there;

	assert_true(find(text, &before));
	/* ip(8) does not wait for that. */
	for (int i = 0; i < 1000 && !is_local(&v); i++)
		usleep(1000);
	assert_true(is_local(&v));
	ok(netaddr_put(&before, &was_there));
	assert_true(was_there);
	ok(netaddr_drop(&before));
	ok(netaddr_drop(&before));
	assert_false(find(text, &after));
	assert_false(is_local(&v));
	ok(netaddr_put(&before, &was_there));
	assert_false(was_there);
	assert_true(is_local(&v));
	assert_true(find(text, &after));
	same(&before, &after);
	assert_int_equal(after.flags & IFA_F_TENTATIVE, 0);
	if (known)
		assert_int_equal((before.flags ^ after.flags) & ~(unsigned)IFA_F_NODAD, 0);
}

static void taken_and_put(unused_arg void **state)
{
	struct net_address a;
	bool was_there;

	must(false, "ip address add 10.9.0.100/32 dev v0");
	must(false, "ip address add 10.9.0.101/24 broadcast 10.9.0.255 dev v0 label v0:1");
	must(false, "ip address add 10.9.0.102/32 dev v0 valid_lft 1000 preferred_lft 900");
	must(false, "ip address add 10.9.1.1 peer 10.9.2.2/32 dev v0 metric 77");
	must(false, "ip address add fd09::100/128 dev v0 nodad");
	must(false, "ip address add fd09::101/64 dev v0 nodad noprefixroute");
	must(false, "ip address add fd09::102/64 dev v0 nodad preferred_lft 0");
	there_and_back("10.9.0.100", true);
	there_and_back("10.9.0.101", true);
	there_and_back("10.9.0.102", false);
	there_and_back("10.9.1.1", true);
	there_and_back("fd09::100", true);
	there_and_back("fd09::101", true);
	there_and_back("fd09::102", true);
	/* ip(8) of the oldest system that we build on knows no protocols. */
	assert_true(find("fd09::102", &a));
	a.ip = ip("fd09::103");
	a.proto = 42;
	ok(netaddr_put(&a, &was_there));
	assert_true(find("fd09::103", &a));
	assert_int_equal(a.proto, 42);
	there_and_back("fd09::103", true);
}

/* Packets to it are ours when the call returns, every time. */
static void local_at_once(unused_arg void **state)
{
	static const char *const names[] = { "10.78.0.1", "fd78::1" };
	struct net_address a = { .valid = UINT32_MAX,
		.preferred = UINT32_MAX,
		.index = if_nametoindex("v0"),
		.interface = "v0" };
	bool was_there;

	for (int i = 0; i < 600; i++) {
		a.ip = ip(names[i & 1]);
		a.prefix = (uint8_t)(8 * net_ip_len(a.ip.family));
		ok(netaddr_put(&a, &was_there));
		assert_false(was_there);
		assert_true(is_local(&a.ip));
		ok(netaddr_drop(&a));
		assert_false(is_local(&a.ip));
	}
}

/* The kernel takes them along with the first one of their network; they are not ours. */
static void others_stay(unused_arg void **state)
{
	struct net_address first, second, third, after;
	bool was_there;

	must(false, "sysctl -qw net.ipv4.conf.v0.promote_secondaries=0 "
		    "net.ipv4.conf.all.promote_secondaries=0");
	must(false, "ip address add 10.77.0.1/24 dev v0");
	must(false, "ip address add 10.77.0.2/24 dev v0 label v0:2");
	must(false, "ip address add 10.77.0.3/24 dev v0 valid_lft 1000 preferred_lft 900");
	assert_true(find("10.77.0.1", &first) && find("10.77.0.2", &second) &&
		    find("10.77.0.3", &third));
	assert_true(second.flags & third.flags & IFA_F_SECONDARY);
	ok(netaddr_drop(&first));
	assert_false(find("10.77.0.1", &after));
	assert_true(find("10.77.0.2", &after));
	same(&second, &after);
	assert_true(find("10.77.0.3", &after));
	same(&third, &after);
	ok(netaddr_put(&first, &was_there));
	assert_false(was_there);
	ok(netaddr_drop(&third));
	ok(netaddr_drop(&second));
	ok(netaddr_drop(&first));
	assert_false(find("10.77.0.1", &after) || find("10.77.0.2", &after) ||
		     find("10.77.0.3", &after));
}

/* A child that changes addresses all the time until it is killed. */
static pid_t restless(const struct net_address *a)
{
	pid_t pid = fork();
	bool was_there;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		err_free(netaddr_put(a, &was_there));
		err_free(netaddr_drop(a));
	}
}

/* The kernel cuts such a list short and says so. */
static void listed_while_they_change(unused_arg void **state)
{
	struct net_address a, found;
	pid_t child;

	must(false, "ip address add fd77::1/128 dev v0 nodad");
	assert_true(find("fd77::1", &a));
	child = restless(&a);
	assert_true(child > 1);
	for (int i = 0; i < 3000; i++)
		assert_true(find("fd09::1", &found));
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	ok(netaddr_drop(&a));
}

static void places(unused_arg void **state)
{
	struct net_address a = { .index = 0 };
	struct net_ip in = ip("10.9.0.200"), in6 = ip("fd09::200"), out = ip("192.0.2.1");

	ok(netaddr_place(&in, "nowhere", &a));
	assert_string_equal(a.interface, "v0");
	assert_int_equal(a.index, if_nametoindex("v0"));
	ok(netaddr_place(&in6, "nowhere", &a));
	assert_string_equal(a.interface, "v0");
	ok(netaddr_place(&in, "lo", &a));
	assert_string_equal(a.interface, "lo");
	ok(netaddr_place(&out, "v0", &a));
	assert_string_equal(a.interface, "v0");
	fails(netaddr_place(&out, "nowhere", &a), ERR_MISMATCH);
	must(false, "ip link add down0 type dummy 2>/dev/null || ip link add down0 type bridge");
	fails(netaddr_place(&out, "down0", &a), ERR_MISMATCH);
}

/* Does the neighbour believe that ip is at this link address? */
static bool believes(const char *text, const char *mac)
{
	char command[256];

	snprintf(command, sizeof(command), "ip neighbour show %s | grep -qi %s", text, mac);
	return run(true, command) == 0;
}

/* Whoever is there answers to neighbour discovery as he does to a connection: with a reset. */
static int knock(const char *text)
{
	char command[512];

	snprintf(command, sizeof(command),
		"python3 -SEc \"import socket\ntry: socket.create_connection(('%s', 9), 1)\n"
		"except ConnectionRefusedError: pass\" 2>/dev/null",
		text);
	return run(true, command);
}

static void told(const char *text)
{
	char command[256];
	struct net_address a;
	bool was_there;
	int teller;

	/* It has another one's in mind. */
	snprintf(command, sizeof(command),
		"ip neighbour replace %s lladdr 02:00:00:00:00:99 dev v1 nud stale", text);
	must(true, command);
	assert_true(believes(text, "02:00:00:00:00:99"));
	assert_true(find(text, &a));
	ok(netaddr_teller(&teller));
	ok(netaddr_announce(teller, &a.ip, a.index));
	close(teller);
	for (int i = 0; i < 100 && !believes(text, "02:00:00:00:00:01"); i++)
		usleep(10000);
	assert_true(believes(text, "02:00:00:00:00:01"));
	/* Behind the silence nobody hears of it, whoever asks. */
	ok(netaddr_drop(&a));
	snprintf(command, sizeof(command), "ip neighbour flush dev v1");
	must(true, command);
	ok(netlock_make("quiet"));
	ok(netlock_silence("quiet", &a.ip, 1));
	ok(netaddr_put(&a, &was_there));
	assert_int_not_equal(knock(text), 0);
	assert_false(believes(text, "02:00:00:00:00:01"));
	ok(netlock_open("quiet", true));
	assert_int_equal(knock(text), 0);
	ok(netlock_remove("quiet"));
}

static void announced(unused_arg void **state)
{
	told("10.9.0.100");
	told("fd09::100");
}

/* Do we know where the neighbour's address is, having asked for it? */
static bool resolved(const char *text, int ms)
{
	char command[256];
	struct net_ip to = ip(text);
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} a = { .any.sa_family = (sa_family_t)to.family };
	int fd = socket(to.family, SOCK_DGRAM | SOCK_CLOEXEC, 0), found = -1;

	a.in.sin_port = htons(9); /* at one place in both */
	memcpy(to.family == AF_INET ? (void *)&a.in.sin_addr : (void *)&a.in6.sin6_addr, to.bytes,
		net_ip_len(to.family));
	snprintf(command, sizeof(command), "ip neighbour show %s dev v0 | grep -q lladdr", text);
	for (int t = 0; found && t < ms; t += 50) {
		(void)!sendto(fd, "", 1, 0, &a.any, sizeof(a));
		usleep(50000);
		found = run(false, command);
	}
	close(fd);
	return found == 0;
}

/* Packets that ask for it do not leave either: nobody is to look for it through us. */
static void not_asked_for(unused_arg void **state)
{
	static const char *const names[] = { "10.9.0.2", "fd09::2" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct net_ip v = ip(names[i]);

		must(false, "ip neighbour flush dev v0");
		ok(netlock_make("asked"));
		ok(netlock_silence("asked", &v, 1));
		assert_false(resolved(names[i], 500));
		ok(netlock_open("asked", true));
		assert_true(resolved(names[i], 10000));
		ok(netlock_remove("asked"));
	}
}

static void make_neighbour(void)
{
	char command[256];
	int ready[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	neighbour = fork();
	if (neighbour == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		netns_enter();
		(void)!write(ready[1], "r", 1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	snprintf(command, sizeof(command),
		"ip link add v0 address 02:00:00:00:00:01 type veth peer name v1 netns %d",
		neighbour);
	must(false, command);
	must(false, "ip address add 10.9.0.1/24 dev v0");
	must(false, "ip address add fd09::1/64 dev v0 nodad");
	must(false, "ip link set v0 up");
	must(true, "ip address add 10.9.0.2/24 dev v1");
	must(true, "ip address add fd09::2/64 dev v1 nodad");
	must(true, "ip link set v1 up");
	must(true, "sysctl -qw net.ipv6.conf.v1.accept_untracked_na=1 2>/dev/null || true");
}

static int setup(unused_arg void **state)
{
	make_neighbour();
	return 0;
}

static int teardown(unused_arg void **state)
{
	if (neighbour > 1)
		kill(neighbour, SIGKILL);
	waitpid(neighbour, NULL, 0);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts),
		cmocka_unit_test(taken_and_put),
		cmocka_unit_test(local_at_once),
		cmocka_unit_test(others_stay),
		cmocka_unit_test(listed_while_they_change),
		cmocka_unit_test(places),
		cmocka_unit_test(announced),
		cmocka_unit_test(not_asked_for),
	};

	netns_enter();
	return cmocka_run_group_tests(tests, setup, teardown);
}
