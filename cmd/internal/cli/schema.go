package cli

// field is one field of what commands print as JSON.
type field struct{ name, meaning string }

// schema describes an object of what commands print as JSON.
type schema struct {
	title  string
	fields []field
}

// schemas are what scripts can rely on. Fields are added, and none is taken away or given
// another meaning.
func schemas() []schema {
	return []schema{statusSchema(), branchSchema(), changeSchema(), leftSchema()}
}

func statusSchema() schema {
	return schema{"`status --json`: an array with an object for each mount", []field{
		{"mountpoint", "where it is or was mounted"},
		{"cache_dir", "its cache directory"},
		{"pid", "process that serves it; not there if there is none"},
		{"state", "`mounted`; `draining`: unmounted and still uploading; `ended`: no process, changes are left"},
		{"write", "`back` or `through`; not there if there is no process"},
		{"paused", "uploads are held by `meshmount pause`"},
		{"staged_bytes", "what written data takes on the local disk"},
		{"staging_limit", "most that it may take; 0 = no bound"},
		{"full", "why there is no room for more: programs wait for uploads, then get ENOSPC; not there if there is room"},
		{"damage", "what of the journal could not be read; not there if nothing"},
		{"pending", "changes that are not stored, without parked ones"},
		{"uploading", "of these, under way"},
		{"parked", "changes that failed for good and wait for `retry` or `drop`"},
		{"bytes", "content of the pending changes"},
		{"sent", "of these, already sent by uploads under way"},
		{"rate", "bytes per second at present"},
		{"held", "why changes wait, a text for each branch that is held; not there if none is"},
		{"branches", "an array, see below"},
		{"items", "an array of changes, see below: up to 1000, those that need attention first; with `--all` all of them"},
		{"items_left_out", "how many others there are"},
		{"error", "why nothing is told of this mount; not there if all is well"},
	}}
}

func branchSchema() schema {
	return schema{"an element of `branches`", []field{
		{"name", "place in the mount, with a slash in front"},
		{"tree", "what it is on the server, and as whom"},
		{"mounted", "false: changes of an earlier mount, which had this branch"},
		{"pending", "as above, of this branch"},
		{"uploading", "as above"},
		{"parked", "as above"},
		{"bytes", "as above"},
		{"sent", "as above"},
		{"rate", "as above"},
		{"held", "why nothing is sent; not there if it is"},
		{"conflicts", "up to 100 of the newest: `path` of theirs, `copy` of ours (not there if ours was to remove it), `time`"},
		{"conflict_count", "how many there are in all"},
	}}
}

func changeSchema() schema {
	return schema{"a change", []field{
		{"id", "number for `retry`, `drop` and `export`"},
		{"op", "`put`, `mkdir`, `remove`, `rename`, `symlink` or `setattr`"},
		{"path", "in the mount"},
		{"to", "new path of a rename; else not there"},
		{"state", "`pending`, `uploading`, `waiting` (failed, is tried again by itself), `parked`, `blocked` (behind a parked one)"},
		{"size", "bytes of content"},
		{"sent", "of these, already sent"},
		{"since", "when it was made (RFC 3339)"},
		{"tries", "how often it was tried; not there if never"},
		{"next_try", "when it is tried again, if that has a time"},
		{"cause", "why the last try failed; not there if none did"},
		{"kind", "of the cause, one word"},
		{"file", "with the content on this node; not there without content"},
		{"offset", "where in `file` the content begins, in bytes; not there if at its beginning: small contents share a file, `meshmount export` writes them one by one"},
	}}
}

func leftSchema() schema {
	return schema{"`leftovers.json`, `unmount --json`; `flush --json`: an array of it", []field{
		{"mountpoint", "where it was mounted"},
		{"cache_dir", "its cache directory"},
		{"ended", "when the mount ended; not there if it did not"},
		{"count", "changes that did not reach their servers; 0 = everything is stored"},
		{"bytes", "their content"},
		{"changes", "an array of them"},
	}}
}

// writeSchemas writes the tables in Markdown.
func writeSchemas(w *textWriter) {
	for _, s := range schemas() {
		w.printf("| field | %s |\n|---|---|\n", s.title)
		for _, f := range s.fields {
			w.printf("| `%s` | %s |\n", f.name, f.meaning)
		}
		w.printf("\n")
	}
}
