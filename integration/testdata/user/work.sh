#!/bin/bash
# What an unprivileged user does: mount, work, unmount.
#
#   work.sh MESHMOUNT MOUNTPOINT BRANCH-ARGUMENTS...
set -euo pipefail
meshmount=$1 point=$2
shift 2
fail() { echo "$*" >&2; exit 1; }

cd /
mkdir -p "$point"
"$meshmount" mount "$point" "$@"
grep -q " $point fuse" /proc/self/mountinfo || fail "mount returned and nothing is mounted"

[ "$(stat -c %u "$point/a")" = "$(id -u)" ] || fail "the tree belongs to $(stat -c %u "$point/a"), not to $(id -u)"
mkdir "$point/a/dir"
echo "written by $WHO" >"$point/a/dir/file"
head -c 300000 /dev/urandom >"$point/a/dir/random"
cp "$point/a/dir/random" "$point/b/copy"
cmp "$point/a/dir/random" "$point/b/copy"
mv "$point/a/dir/file" "$point/a/dir/renamed"
ln -s renamed "$point/a/dir/link"
[ "$(cat "$point/a/dir/link")" = "written by $WHO" ] || fail "wrong content"
(cd "$point/a/dir" && tar -cf - . | tar -tf - | grep -q renamed) || fail "tar"
[ "$(ls "$point/a/dir")" = "$(printf 'link\nrandom\nrenamed')" ] || fail "listing: $(ls "$point/a/dir")"

"$meshmount" unmount "$point"
if grep -q " $point fuse" /proc/self/mountinfo; then fail "still mounted after unmount"; fi
[ -z "$(ls -A "$point")" ] || fail "the mount point is not empty"
for _ in $(seq 100); do
	grep -lz -x "$point" /proc/[0-9]*/cmdline 2>/dev/null | grep -v "/$$/\|/self/" >/dev/null || exit 0
	sleep 0.1
done
fail "a process of the mount is left"
