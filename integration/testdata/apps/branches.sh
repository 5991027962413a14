# Two branches of one tree: mv and cp cross the border, rename(2) does not.

work() {
	mkdir -p out/sub
	head -c 1500000 /dev/urandom >out/big
	cp out/big "$TMP/big"
	echo small >out/sub/small
	chmod 0750 out/sub/small
	touch -d '2021-01-01 01:01:01' out/sub/small
	ln -s sub/small out/link
	cp -a out "$TMP/out"
	mv out "$OTHER/in"
	[ ! -e out ] || die "mv left the source"
	cp -a "$OTHER/in" back
	mv "$OTHER/in/big" big
	[ ! -e "$OTHER/in/big" ] || die "mv left the file"
	# rename(2) itself refuses: --no-copy where mv has it, else a hard look by perl.
	perl -e 'use Errno; rename($ARGV[0], $ARGV[1]) and exit 1; exit($!{EXDEV} ? 0 : 2)' big "$OTHER/big" ||
		die "rename across branches did not give EXDEV"
}

verify() {
	same "$TMP/big" big
	same "$TMP/big" back/big
	diff -r --no-dereference "$TMP/out" back
	manifest "$TMP/out" >"$TMP/want"
	manifest back >"$TMP/got"
	diff "$TMP/want" "$TMP/got"
	equal "$(cat "$OTHER/in/link")" small
	equal "$(ls "$OTHER/in")" "$(printf 'link\nsub')"
}
