# sqlite3: rollback journal and write-ahead log, two writers, a killed writer.

# insert DB N: N transactions, each waiting for the lock.
insert() {
	for _ in $(seq "$2"); do
		sqlite3 -cmd '.timeout 240000' "$1" 'BEGIN IMMEDIATE; INSERT INTO t SELECT hex(randomblob(100)) FROM t LIMIT 20; UPDATE n SET v = v + 1; COMMIT;'
	done
}

# killed DB: a writer dies in the middle of a transaction that has begun to write.
killed() {
	mkfifo "$TMP/fifo"
	sqlite3 "$1" <"$TMP/fifo" >"$TMP/out" &
	pid=$!
	exec 9>"$TMP/fifo"
	echo 'PRAGMA cache_size=1; PRAGMA cache_spill=1; BEGIN; UPDATE t SET x = x || "torn"; SELECT "begun";' >&9
	for _ in $(seq 4800); do grep -q begun "$TMP/out" && break; sleep 0.05; done
	grep -q begun "$TMP/out" || die "the writer did not begin"
	kill -9 $pid
	wait $pid 2>/dev/null || true
	exec 9>&-
	rm "$TMP/fifo" "$TMP/out"
}

work() {
	for mode in delete wal; do
		db=$mode.db
		equal "$(sqlite3 $db "PRAGMA journal_mode=$mode")" $mode "journal mode"
		sqlite3 $db 'CREATE TABLE n (v INTEGER); INSERT INTO n VALUES (0); CREATE TABLE t (x TEXT);
			WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < 600)
			INSERT INTO t SELECT hex(randomblob(100)) FROM c; CREATE INDEX i ON t (x);'
		sqlite3 $db 'BEGIN; DELETE FROM t; ROLLBACK;'
		insert $db 3 &
		insert $db 3
		wait $!
		killed $db
		equal "$(sqlite3 $db 'SELECT count(*) FROM t WHERE x LIKE "%torn"')" 0 "rows of the killed transaction"
	done
}

verify() {
	for mode in delete wal; do
		equal "$(sqlite3 $mode.db 'PRAGMA integrity_check')" ok
		equal "$(sqlite3 $mode.db 'SELECT v FROM n')" 6 "transactions"
		equal "$(sqlite3 $mode.db 'SELECT count(*) FROM t')" 720 "rows"
	done
	sqlite3 delete.db 'UPDATE n SET v = v + 0; VACUUM;'
}
