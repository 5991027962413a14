# tar: a source tree of some thousand files with links, executables, old dates and
# names that are long or odd.

make_tree() {
	mkdir "$TMP/tree"
	cp -r "$SOURCE"/. "$TMP/tree"
	chmod -R u+w "$TMP/tree"
	cd "$TMP/tree"
	printf '#!/bin/sh\necho run\n' >run.sh
	chmod 0755 run.sh
	printf 'private\n' >private
	chmod 0600 private
	: >empty
	mkdir empty.d
	ln -s run.sh link
	ln -s ../outside/of/the/tree dangling
	ln -s empty.d dirlink
	long=$(printf 'n%.0s' $(seq 240))
	echo long >"$long"
	deep=$(printf 'directory-%d/' $(seq 12))
	mkdir -p "$deep"
	echo deep >"$deep/file"
	echo odd >'a b  c & d;e?#%41+=@!~(){}[]$`"'"'"'|<>*^,'
	echo utf8 >'Ünïcödé-名前-😀'
	echo dots >'...'
	echo dash >'-rf'
	find . -type f -name '*.go' -exec touch -d '2011-03-04 05:06:07' {} +
	find . -depth -type d -exec touch -d '2012-01-02 03:04:05' {} +
	cd - >/dev/null
	tar -cf "$TMP/tree.tar" -C "$TMP" tree
}

work() {
	make_tree
	tar -xf "$TMP/tree.tar"
}

verify() {
	diff -r --no-dereference "$TMP/tree" tree
	manifest "$TMP/tree" >"$TMP/want"
	manifest tree >"$TMP/got"
	diff "$TMP/want" "$TMP/got"
	equal "$(./tree/run.sh)" run
	tar -df "$TMP/tree.tar" || die "tar finds a difference"
	# And back: what tar reads through the mount is what was written.
	tar -cf "$TMP/back.tar" tree
	tar -tf "$TMP/back.tar" | LC_ALL=C sort >"$TMP/names.got"
	tar -tf "$TMP/tree.tar" | LC_ALL=C sort >"$TMP/names.want"
	same "$TMP/names.got" "$TMP/names.want"
}
