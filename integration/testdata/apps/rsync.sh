# rsync: a second run has nothing to do, a third does only what changed.

# again [OPTION]: what one more run would do. Some servers set the time of all
# directories above when something changes, the time of a directory included: there
# rsync finds the times of directories changed, and nothing else.
again() {
	rsync -a "$@" --itemize-changes "$TMP/archive" "$TMP/html" "$TMP/link" copy |
		if [ "$PLACE" = propagating ]; then grep -v '^\.d\.\.t\.\.\.\.\.\. ' || true; else cat; fi
}

work() {
	cp -r "$SOURCE"/archive "$SOURCE"/html "$TMP"
	chmod -R u+w "$TMP"
	chmod 0750 "$TMP/html"
	ln -s archive "$TMP/link"
	mkdir copy
	rsync -a "$TMP/archive" "$TMP/html" "$TMP/link" copy
	equal "$(again)" "" "second run"
	echo changed >>"$TMP/html/escape.go"
	rm "$TMP/html/escape_test.go"
	rsync -a --delete --itemize-changes "$TMP/html" copy >"$TMP/changes"
	grep -q '^>f.*html/escape.go' "$TMP/changes" || die "the changed file was not copied"
	grep -q '^\*deleting *html/escape_test.go' "$TMP/changes" || die "the removed file was not deleted"
	equal "$(grep -c '^>f' "$TMP/changes")" 1 "files copied in the third run"
	rsync -a --inplace --append-verify "$TMP/archive" copy/
}

verify() {
	equal "$(again)" "" "by size and time"
	equal "$(again -c)" "" "by checksum"
	diff -r "$TMP/html" copy/html
}
