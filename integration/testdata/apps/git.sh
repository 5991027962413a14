# git: init, commit, clone, push, merge, repack; the index's stat data stay valid.

work() {
	git init -q -b main first
	mkdir first/encoding
	cp -r "$SOURCE"/encoding/csv "$SOURCE"/encoding/hex first/encoding
	chmod -R u+w first
	cd first
	git add .
	git commit -q -m one
	equal "$(git status --porcelain)" "" "status after the first commit"
	git diff-files --quiet || die "the index does not fit the files' times and sizes"
	git checkout -q -b side
	sed -i 's/package/PACKAGE/' encoding/csv/reader.go
	git mv encoding/hex encoding/hexed
	git commit -q -a -m two
	git checkout -q main
	echo more >>encoding/csv/writer.go
	git commit -q -a -m three
	git merge -q -m merged side
	equal "$(git log --oneline | wc -l)" 4 commits
	cd ..
	git clone -q first second
	cd second
	equal "$(git status --porcelain)" "" "status of the clone"
	echo "from the clone" >new
	git add new
	git commit -q -m four
	git push -q origin HEAD:refs/heads/pushed
	cd ../first
	git merge -q pushed
	git gc -q --prune=now
	git clone -q --bare . "$OTHER/bare.git"
}

verify() {
	for repo in first second; do
		git -C $repo fsck --strict --no-progress || die "fsck of $repo"
		equal "$(git -C $repo status --porcelain)" "" "status of $repo"
	done
	git -C "$OTHER/bare.git" fsck --strict --no-progress || die "fsck of the bare clone"
	equal "$(git -C first log --oneline | wc -l)" 5 commits
	equal "$(cat first/new)" "from the clone"
	equal "$(git -C first rev-parse main)" "$(git -C second rev-parse main)"
}
