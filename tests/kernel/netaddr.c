// SPDX-License-Identifier: Apache-2.0
/* Addresses of interfaces, between two network namespaces: ours and that of a child, which is the
 * neighbour. */
#include <linux/if_addr.h>
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
	assert_int_equal(a->has_peer, b->has_peer);
	assert_int_equal(a->has_broadcast, b->has_broadcast);
	assert_int_equal(a->valid == UINT32_MAX, b->valid == UINT32_MAX);
}

/* Taken away and put back it is what it was. */
static void there_and_back(const char *text, bool known)
{
	struct net_address before, after;
	struct net_ip v = ip(text);
	bool local, was_there;

	assert_true(find(text, &before));
	ok(netaddr_is_local(&v, &local));
	assert_true(local);
	ok(netaddr_put(&before, &was_there));
	assert_true(was_there);
	ok(netaddr_drop(&before));
	ok(netaddr_drop(&before));
	assert_false(find(text, &after));
	ok(netaddr_is_local(&v, &local));
	assert_false(local);
	ok(netaddr_put(&before, &was_there));
	assert_false(was_there);
	assert_true(find(text, &after));
	same(&before, &after);
	assert_int_equal(after.flags & IFA_F_TENTATIVE, 0);
	if (known)
		assert_int_equal((before.flags ^ after.flags) & ~(unsigned)IFA_F_NODAD, 0);
}

static void taken_and_put(unused_arg void **state)
{
	must(false, "ip address add 10.9.0.100/32 dev v0");
	must(false, "ip address add 10.9.0.101/24 broadcast 10.9.0.255 dev v0 label v0:1");
	must(false, "ip address add 10.9.0.102/32 dev v0 valid_lft 1000 preferred_lft 900");
	must(false, "ip address add 10.9.1.1 peer 10.9.2.2/32 dev v0 metric 77");
	must(false, "ip address add fd09::100/128 dev v0 nodad");
	must(false, "ip address add fd09::101/64 dev v0 nodad noprefixroute");
	there_and_back("10.9.0.100", true);
	there_and_back("10.9.0.101", true);
	there_and_back("10.9.0.102", false);
	there_and_back("10.9.1.1", true);
	there_and_back("fd09::100", true);
	there_and_back("fd09::101", true);
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
		cmocka_unit_test(places),
		cmocka_unit_test(announced),
	};

	netns_enter();
	return cmocka_run_group_tests(tests, setup, teardown);
}
