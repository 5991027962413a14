# What shells, editors and coreutils do to files.

work() {
	# Appending, by one and by several at once.
	for i in $(seq 50); do echo "line $i" >>log; done
	for w in 1 2 3 4; do
		(for i in $(seq 25); do echo "writer $w line $i"; done >>shared) &
	done
	wait
	equal "$(wc -l <shared)" 100 "lines of four writers"
	# In place, and the way editors save.
	seq 1000 >numbers
	sed -i 's/^5$/five/' numbers
	sort -R -o numbers numbers
	sort -n -o numbers numbers
	for i in $(seq 10); do
		echo "version $i" >.doc.tmp
		mv -f .doc.tmp doc
		equal "$(cat doc)" "version $i"
	done
	cp doc doc~
	ln -s doc doc.link
	# dd: sync, seek, holes, append, in place.
	head -c 3000000 /dev/urandom >"$TMP/random"
	dd if="$TMP/random" of=dd bs=64k conv=fsync status=none
	dd if="$TMP/random" of=dd bs=1000 skip=7 seek=1234 count=50 conv=notrunc,fdatasync status=none
	cp "$TMP/random" "$TMP/dd"
	dd if="$TMP/random" of="$TMP/dd" bs=1000 skip=7 seek=1234 count=50 conv=notrunc status=none
	dd if="$TMP/random" of=hole bs=1 count=10 seek=5000000 status=none
	dd if="$TMP/random" of=dd bs=1000 count=3 oflag=append conv=notrunc status=none
	head -c 3000 "$TMP/random" >>"$TMP/dd"
	truncate -s 100 numbers
	truncate -s 2M grown
	fallocate_or_not
	# Moving about.
	mkdir -p a/b/c
	echo in >a/b/c/file
	mv a/b moved
	mv moved/c/file moved/c/renamed
	cp -a moved copied
	install -m 0751 doc installed
	chmod 0640 doc~
	touch -d '2020-02-02 02:02:02' doc~
	# Open files without a name.
	exec 3>unlinked 4<unlinked
	rm unlinked
	echo ghost >&3
	[ ! -e unlinked ] || die "an unlinked file is still there"
	equal "$(cat <&4)" ghost
	exec 3>&- 4<&-
	# Locks among processes: nothing is lost.
	echo 0 >counter
	for _ in 1 2 3 4; do
		(for _ in $(seq 5); do flock lock sh -c 'n=$(cat counter); echo $((n + 1)) >counter'; done) &
	done
	wait
	equal "$(cat counter)" 20 "locked counter"
	# What a share cannot have is refused.
	[ "$PLACE" = local ] || refused ln doc hardlink
	refused mkdir doc
	refused rmdir moved
	refused rm moved
	refused cat missing
	refused sh -c 'set -C; echo x >doc'
	rmdir a
}

# fallocate works or is refused; it does not pretend.
fallocate_or_not() {
	if fallocate -l 1000000 allocated 2>/dev/null; then
		equal "$(stat -c %s allocated)" 1000000 "size after fallocate"
	fi
	rm -f allocated
}

verify() {
	equal "$(tail -n 1 log)" "line 50"
	equal "$(wc -l <log)" 50
	for w in 1 2 3 4; do
		equal "$(grep -c "^writer $w line" shared)" 25 "lines of writer $w"
	done
	equal "$(cat doc)" "version 10"
	equal "$(cat doc.link)" "version 10"
	equal "$(readlink doc.link)" doc
	equal "$(stat -c %s numbers)" 100
	equal "$(sed -n 5p numbers)" 4
	same "$TMP/dd" dd
	equal "$(stat -c %s hole)" 5000010
	equal "$(head -c 5000000 hole | tr -d '\0' | wc -c)" 0 "bytes in the hole"
	tail -c 10 hole | cmp - <(head -c 10 "$TMP/random")
	equal "$(stat -c %s grown)" 2097152
	equal "$(cat moved/c/renamed copied/c/renamed)" "$(printf 'in\nin')"
	equal "$(stat -c %a installed)" 751
	equal "$(stat -c '%a %Y' doc~)" "640 $(date -d '2020-02-02 02:02:02' +%s)"
	equal "$(cat counter)" 20
	equal "$(find . -type f | wc -l)" 13 files
	equal "$(find . -name '.fuse*' -o -name '*.tmp' | wc -l)" 0 "temporary files"
	# The shell's summary tools agree with the sizes.
	want=$(find . -type f -printf '%s\n' | awk '{ s += $1 } END { print s }')
	got=$(find . -type f -exec cat {} + | wc -c)
	equal "$got" "$want" "bytes read against sizes shown"
	[ "$(du -s --apparent-size -B1 . | cut -f1)" -ge "$want" ] || die "du shows less than there is"
	df . >/dev/null
}
