#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# migrated under a real systemd: the units start it and notify, a moved process gets a scope that
# outlives the daemon, --unit refuse and stop, socket activation. systemd is process 1 of namespaces
# of its own, on an overlay of this machine's root; a second host without systemd lives inside.
#
#   under-systemd.sh BUILD
# shellcheck disable=SC2009,SC2086
set -u
me=$(readlink -f "$0")

skip() {
	echo "skip: $1"
	exit 77
}

fail() {
	echo "FAILED: $*"
	echo fail >/srv/verdict
	exit 1
}

# ---- on this machine ----
outer() {
	[ "$(id -u)" = 0 ] || skip "not root"
	[ -x /lib/systemd/systemd ] || skip "no systemd here"
	command -v dbus-daemon >/dev/null || skip "no dbus-daemon here"
	v2=$(awk '$(NF-2) == "cgroup2" && $4 == "/" { print $5 }' /proc/self/mountinfo | tail -1)
	[ -n "$v2" ] || skip "no cgroup v2 here"
	dir=$(mktemp -d) && group="$v2/migrated-test-$$" && mkdir "$group" || exit 1
	trap 'find "$group" -depth -type d -exec rmdir {} \; ; rm -rf "$dir"' EXIT
	mkdir "$dir/srv" "$dir/install"
	DESTDIR="$dir/install" meson install -C "$1" --no-rebuild >/dev/null || exit 1
	cp "$me" "$(dirname "$me")/../e2e/ticker.py" "$dir/srv/"
	(
		echo $BASHPID >"$group/cgroup.procs"
		exec timeout -k 5 100 unshare --pid --mount --cgroup --uts --ipc --net --fork \
			--kill-child bash "$me" boot "$dir"
	) >"$dir/log" 2>&1 &
	machine=$!
	while kill -0 $machine 2>/dev/null && [ ! -s "$dir/srv/verdict" ]; do sleep 0.1; done
	echo 1 >"$group/cgroup.kill"
	until grep -q "populated 0" "$group/cgroup.events"; do sleep 0.05; done
	wait $machine 2>/dev/null
	cat "$dir/srv/out" 2>/dev/null
	case $(cat "$dir/srv/verdict" 2>/dev/null) in
	ok) exit 0 ;;
	fail) exit 1 ;;
	esac
	tail -5 "$dir/log"
	skip "systemd does not start here"
}

# ---- becomes process 1 ----
boot() {
	set -e
	mount --make-rprivate /
	mkdir "$1/disk"
	mount -t tmpfs none "$1/disk"
	mkdir "$1/disk/up" "$1/disk/work" "$1/disk/root"
	mount -t overlay none "$1/disk/root" \
		-o "lowerdir=/,upperdir=$1/disk/up,workdir=$1/disk/work"
	cd "$1/disk/root"
	mount -t proc proc proc
	mount -t sysfs sysfs sys
	mount -t cgroup2 cgroup2 sys/fs/cgroup
	mount -t tmpfs tmpfs run
	mount --rbind /dev dev
	mount --bind "$1/srv" srv
	cp -r "$1/install/." .
	rm -rf etc/systemd/system/*.wants var/lib/migrated etc/migrated
	cat >etc/systemd/system/inside.service <<-END
		[Unit]
		After=dbus.service basic.target
		Wants=dbus.service
		[Service]
		Type=oneshot
		ExecStart=/bin/bash /srv/under-systemd.sh inside
		StandardOutput=file:/srv/out
		StandardError=inherit
	END
	printf '[Unit]\nRequires=basic.target inside.service\n' >etc/systemd/system/inside.target
	ip link set lo up
	container=lxc exec chroot . /lib/systemd/systemd --system --unit=inside.target
}

# ---- a host without systemd, obeys /srv/n/cmd ----
nested() {
	mount -t proc proc /proc
	echo 5000 >/proc/sys/kernel/ns_last_pid
	ip link set lo up
	until ip link show vb >/dev/null 2>&1; do sleep 0.05; done
	ip addr add 10.9.0.2/24 dev vb
	ip link set vb up
	(setsid migrated --listen 10.9.0.2 --control /srv/n/c --state-dir /srv/n/s \
		>/srv/n/log 2>&1 &)
	until [ -S /srv/n/c ]; do sleep 0.05; done
	while :; do
		if [ -f /srv/n/cmd ]; then
			bash /srv/n/cmd >/srv/n/out.new 2>&1
			rm /srv/n/cmd
			mv /srv/n/out.new /srv/n/out
		fi
		sleep 0.05
	done
}

there() {
	rm -f /srv/n/out
	echo "$*" >/srv/n/cmd.new
	mv /srv/n/cmd.new /srv/n/cmd
	for _ in $(seq 400); do
		[ -f /srv/n/out ] && break
		sleep 0.05
	done
	cat /srv/n/out
}

ticks() {
	local one
	one=$(cat "$1")
	sleep 0.5
	[ "$one" != "$(cat "$1")" ] || fail "$2"
}

service() {
	printf '[Service]\nExecStart=/usr/bin/python3 /srv/ticker.py 1\nStandardOutput=file:%s\n%s\n' \
		"/srv/tick-$1" "$2" >"/etc/systemd/system/$1.service"
}

# ---- the test ----
inside() {
	me=/srv/under-systemd.sh
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	systemd-sysusers || fail sysusers
	systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/migrated.conf || fail tmpfiles
	service always Restart=always
	service never ""
	systemctl daemon-reload
	systemctl start migrated || fail "migrated.service does not start"
	systemctl start always never
	ps -eo user:20,comm | grep -q "^migrated-net  *migrated-net" || fail "net's user: $(ps -e)"
	[ "$(stat -c %a /run/migrated/control.sock)" = 666 ] || fail "mode of the control socket"
	echo "the units start it"

	ip link add va type veth peer name vb
	ip addr add 10.9.0.1/24 dev va
	ip link set va up
	mkdir /srv/n
	unshare --pid --net --mount --fork --kill-child bash "$me" nested >/srv/n/nested 2>&1 &
	host=$!
	until init=$(pgrep -P $host); do sleep 0.05; done
	ip link set vb netns "$init"
	local ctl="migratectl --control /srv/n/c" key own
	for _ in $(seq 100); do
		[ -S /srv/n/c ] && break
		sleep 0.05
	done
	key=$(there $ctl identity) own=$(migratectl identity)
	there $ctl peer add here 10.9.0.1 "$own"
	migratectl peer add there 10.9.0.2 "$key" || fail "peer add $key"

	there 'setsid /usr/bin/python3 /srv/ticker.py 4 >/srv/n/tick 2>&1 </dev/null & echo $!' >/srv/n/pid
	local pid group
	pid=$(cat /srv/n/pid)
	there $ctl send "$pid" here >/srv/n/said
	group=$(tail -1 "/proc/$pid/cgroup") || fail "not moved: $(cat /srv/n/said)"
	[[ $group == *.scope/* ]] || fail "it is in $group"
	ticks /srv/n/tick "it does not run"
	systemctl restart migrated || fail restart
	ticks /srv/n/tick "it does not survive a restart"
	kill "$pid"
	for _ in $(seq 100); do
		systemctl list-units --type=scope --no-legend | grep -q migrated- || break
		sleep 0.05
	done
	systemctl list-units --type=scope --no-legend | grep migrated- && fail "its scope stays"
	echo "a scope of its own, which survives the daemon and ends with the process"

	pid=$(systemctl show -p MainPID --value always)
	migratectl send "$pid" there >/srv/said 2>&1 && fail "Restart=always moved without --unit"
	grep -q 'always.service.*Restart=always' /srv/said || fail "$(cat /srv/said)"
	ticks /srv/tick-always "it does not go on after a refusal"
	migratectl send "$pid" there --unit stop >/srv/said 2>&1 || fail "$(cat /srv/said)"
	sleep 0.5
	[ "$(systemctl show -p ActiveState --value always)" = inactive ] || fail "always is active"
	ticks /srv/tick-always "it does not run there"
	pid=$(systemctl show -p MainPID --value never)
	migratectl send "$pid" there >/srv/said 2>&1 || fail "$(cat /srv/said)"
	echo "--unit refuse and stop"

	systemctl stop migrated || fail stop
	systemctl start migrated.socket migrated-net.socket || fail sockets
	[ "$(migratectl identity)" = "$own" ] || fail "socket activation"
	# It answers as soon as its control role serves, and is active when all of it does.
	for _ in $(seq 100); do
		systemctl is-active -q migrated && break
		sleep 0.1
	done
	systemctl is-active -q migrated || fail "not active: $(systemctl status migrated)"
	ss -tln | grep -q :7420 || fail "nobody listens"
	echo "socket activation"
	echo ok >/srv/verdict
}

case $1 in
boot | inside | nested) "$@" ;;
*) outer "$1" ;;
esac
