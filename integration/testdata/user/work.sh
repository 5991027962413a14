#!/bin/bash
# What an unprivileged user does: mount, work, unmount.
#
#   work.sh MESHMOUNT MOUNTPOINT BRANCH-ARGUMENTS...
set -euo pipefail
meshmount=$1 point=$2
shift 2
fail() { echo "$*" >&2; exit 1; }

mounted() { grep -q " $point [^-]* - fuse.meshmount " /proc/self/mountinfo; }

trap '"$meshmount" unmount --lazy "$point" 2>/dev/null || true' EXIT

cd /
mkdir -p "$point"
"$meshmount" mount "$point" "$@"
mounted || fail "mount returned and nothing is mounted"

[ "$(stat -c %u "$point/a")" = "$(id -u)" ] || fail "the tree belongs to $(stat -c %u "$point/a"), not to $(id -u)"
mkdir "$point/a/dir"
echo "written by $WHO" >"$point/a/dir/file"
head -c 300000 /dev/urandom >"$point/a/dir/random"
cp "$point/a/dir/random" "$point/b/copy"
cmp "$point/a/dir/random" "$point/b/copy"
mv "$point/a/dir/file" "$point/a/dir/renamed"
ln -s renamed "$point/a/dir/link"
[ "$(cat "$point/a/dir/link")" = "written by $WHO" ] || fail "wrong content"
(cd "$point/a/dir" && tar -cf - . | tar -tf - | grep renamed >/dev/null) || fail "tar"
[ "$(ls "$point/a/dir")" = "$(printf 'link\nrandom\nrenamed')" ] || fail "listing: $(ls "$point/a/dir")"

"$meshmount" unmount "$point"
if mounted; then fail "still mounted after unmount"; fi
[ -z "$(ls -A "$point")" ] || fail "the mount point is not empty"
# left: is there a process, other than this one, that names the mount point?
left() {
	local files=(/proc/[0-9]*/cmdline) file
	for file in "${files[@]}"; do
		if [ "$file" != "/proc/$$/cmdline" ] && { tr '\0' '\n' <"$file"; } 2>/dev/null | grep -qxF -- "$point"; then
			return 0
		fi
	done
	return 1
}
for _ in 1 2 3 4 5; do
	left || exit 0
	sleep 0.2
done
fail "a process of the mount is left"
