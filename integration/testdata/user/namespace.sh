#!/bin/bash
# As root in a mount namespace of its own: gives everybody a /dev/fuse, takes
# fusermount3 away, and runs a command as an ordinary user in a user namespace, who
# mounts by mount(2).
#
#   namespace.sh UID GID NODE-DIRECTORY COMMAND...
set -euo pipefail
uid=$1 gid=$2 nodes=$3
shift 3

mount --make-rprivate /
mount -t tmpfs -o mode=0755 none "$nodes"
mknod "$nodes/fuse" c 10 229
chmod 0666 "$nodes/fuse"
mount --bind "$nodes/fuse" /dev/fuse
: >"$nodes/nothing"
for name in fusermount3 fusermount; do
	for dir in ${PATH//:/ } /bin /usr/bin /usr/local/bin; do
		if [ -x "$dir/$name" ]; then mount --bind "$nodes/nothing" "$(readlink -f "$dir/$name")"; fi
		if [ -x "$dir/$name" ]; then echo "$dir/$name is still there" >&2; exit 1; fi
	done
done
exec setpriv --reuid "$uid" --regid "$gid" --clear-groups --inh-caps=-all \
	unshare -Urm "$@"
