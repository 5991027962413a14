# Common parts of the application checks; run as "bash lib.sh CHECK PHASE".
#
# CHECK names a script beside this one. It defines work, which does something in
# the current directory, and verify, which looks at the outcome and also runs
# again on a fresh mount. What may be used:
#
#   $PWD    an empty directory on the mount
#   $OTHER  another one, on another branch
#   $TMP    a local directory that is kept between work and verify
#   $SOURCE a local tree of source files
#   $PLACE  "mount"; "propagating" if the server lets the times of directories follow
#           any change below; "local" when the check itself is checked on a local disk
set -euo pipefail
umask 022

die() { echo "$CHECK: $*" >&2; exit 1; }

# same A B: two files or texts are equal.
same() { cmp -- "$1" "$2" || die "$1 and $2 differ"; }
equal() { [ "$1" = "$2" ] || die "got \"$1\", want \"$2\"${3:+ ($3)}"; }

# refused COMMAND...: the command must fail.
refused() { if "$@" 2>/dev/null; then die "done, but should have failed: $*"; fi; }

# manifest DIR: type, mode, modify time in seconds, link target and name of all.
manifest() { (cd "$1" && find . -mindepth 1 -printf '%y %m %TY-%Tm-%Td %TH:%TM %.2TS %l %p\n' | LC_ALL=C sort -k 6); }

CHECK=$1
. "$(dirname "$0")/$CHECK.sh"
"$2"
