#!/bin/bash
# Looks for the programs that "make demo", "make test" or "make bench" needs. As root
# on Debian it installs the missing ones and starts no service; otherwise it says what
# to install and fails.
#
#   integration/deps.sh demo|test|bench
set -euo pipefail

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# What each run needs: a program (or a file) and the Debian package that has it.
demo_needs='
fusermount3 fuse3
/etc/ssl/certs/ca-certificates.crt ca-certificates
git git
'
test_needs="$demo_needs"'
gcc gcc
/usr/include/stdio.h libc6-dev
make make
apache2 apache2-bin
mount.davfs davfs2
cadaver cadaver
litmus litmus
rclone rclone
nginx nginx-light
/usr/lib/nginx/modules/ngx_http_dav_ext_module.so libnginx-mod-http-dav-ext
lighttpd lighttpd
/usr/lib/lighttpd/mod_webdav.so lighttpd-mod-webdav
rsync rsync
sqlite3 sqlite3
h5dump hdf5-tools
ncgen netcdf-bin
setfattr attr
curl curl
/usr/lib/python3/dist-packages/irods python3-irodsclient
unshare util-linux
mount mount
useradd passwd
find findutils
sed sed
tar tar
unzip unzip
'
bench_needs="$demo_needs"'
apache2 apache2-bin
mount.davfs davfs2
mount mount
tar tar
/usr/lib/python3/dist-packages/irods python3-irodsclient
'

case ${1-} in
demo) needs=$demo_needs ;;
test) needs=$test_needs ;;
bench) needs=$bench_needs ;;
*) echo "usage: $0 demo|test|bench" >&2; exit 2 ;;
esac

if ! command -v go >/dev/null; then
	echo "meshmount needs Go 1.26 or newer; there is no \"go\" in PATH" >&2
	exit 1
fi

missing=
while read -r what package; do
	case $what in
	'') ;;
	/*) [ -e "$what" ] || missing="$missing $package" ;;
	*) command -v "$what" >/dev/null || missing="$missing $package" ;;
	esac
done <<<"$needs"
[ -n "$missing" ] || exit 0

install="apt-get install --no-install-recommends$missing"
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "this machine lacks:$missing" >&2
	echo "install it (on Debian, as root: $install) and run make again" >&2
	exit 1
fi

# Packages must not start daemons: invoke-rc.d asks this program first.
guard=/usr/sbin/policy-rc.d
if [ ! -e $guard ]; then
	trap 'rm -f $guard' EXIT
	printf '#!/bin/sh\nexit 101\n' >$guard
	chmod 0755 $guard
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
echo "installing:$missing"
apt-get update -q </dev/null
# shellcheck disable=SC2086 # a list of words is wanted
apt-get install -q -y --no-install-recommends $missing </dev/null
