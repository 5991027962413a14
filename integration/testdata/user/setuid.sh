#!/bin/bash
# As root in a mount namespace of its own: gives everybody a /dev/fuse and runs
# a command as an ordinary user, who mounts through the set-uid fusermount3.
#
#   setuid.sh UID GID NODE-DIRECTORY COMMAND...
set -euo pipefail
uid=$1 gid=$2 nodes=$3
shift 3

mount --make-rprivate /
mount -t tmpfs -o mode=0755 none "$nodes"
mknod "$nodes/fuse" c 10 229
chmod 0666 "$nodes/fuse"
mount --bind "$nodes/fuse" /dev/fuse
[ -u "$(command -v fusermount3)" ] || { echo "fusermount3 is not set-uid root" >&2; exit 1; }
exec setpriv --reuid "$uid" --regid "$gid" --clear-groups --inh-caps=-all \
	"$@"
