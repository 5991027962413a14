// Package doctor looks at everything a mount depends on and says what to do about
// what is not right. It changes nothing, and logs in once per branch.
package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/meshmount/meshmount/cmd/internal/assemble"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/fusecheck"
	"github.com/meshmount/meshmount/cmd/internal/secret"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/remote"
)

// Status grades what was found.
type Status string

// The grades. Only Fail makes the doctor fail.
const (
	OK   Status = "OK"
	Warn Status = "WARN"
	Fail Status = "FAIL"
)

// Finding is one line of the report.
type Finding struct {
	Check  string `json:"check"`            // "fuse", "tls", ...
	Branch string `json:"branch,omitempty"` // "=" for the branch at the root
	Status Status `json:"status"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

// Report is all that was found.
type Report struct {
	Findings []Finding `json:"findings"`
	Failed   int       `json:"failed"`
	Warned   int       `json:"warned"`
}

// Doctor examines a configuration.
type Doctor struct {
	Config   *settings.Config
	CacheDir string // where a mount would have it, or the directory of them all
	Facts    fusecheck.Facts
	Secrets  *secret.Fetcher
	Log      *slog.Logger
	Agent    string // how the program calls itself to servers
}

// Examine looks at the machine and, all at once, at the branches.
func (d *Doctor) Examine(ctx context.Context) Report {
	findings := d.machine()
	branches := d.Config.Branches
	results := make([][]Finding, len(branches))
	given := d.fetchAll(ctx)
	var examining sync.WaitGroup
	for i := range branches {
		examining.Go(func() { results[i] = d.branch(ctx, &branches[i], given[i]) })
	}
	examining.Wait()
	r := Report{Findings: slices.Concat(findings, slices.Concat(results...))}
	for _, f := range r.Findings {
		switch f.Status {
		case Fail:
			r.Failed++
		case Warn:
			r.Warned++
		}
	}
	return r
}

// fetched is a secret, or why there is none.
type fetched struct {
	secret remote.Secret
	err    error
}

// fetchAll fetches one secret after the other, since that may ask a person.
func (d *Doctor) fetchAll(ctx context.Context) []fetched {
	list := make([]fetched, len(d.Config.Branches))
	for i := range list {
		list[i].secret, list[i].err = d.Secrets.Fetch(ctx, &d.Config.Branches[i])
	}
	return list
}

// Err returns an *exit.Error if something will not work.
func (r *Report) Err() error {
	if r.Failed == 0 {
		return nil
	}
	return exit.New(exit.DoctorFailed, "", "%d of %d checks failed", r.Failed, len(r.Findings))
}

// Write prints the report for people.
func (r *Report) Write(w io.Writer) error {
	for _, f := range r.Findings {
		subject := f.Check
		if f.Branch != "" {
			subject = f.Branch + ": " + f.Check
		}
		line := fmt.Sprintf("%-4s  %s: %s", f.Status, subject, exit.OneLine(f.Detail))
		if f.Remedy != "" {
			line += "\n      -> " + exit.OneLine(f.Remedy)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// WriteJSON prints the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// fault makes a finding of an error.
func fault(check string, err error) Finding {
	f := Finding{Check: check, Status: Fail, Detail: err.Error()}
	if e, ok := asExit(err); ok {
		f.Detail, f.Remedy = e.What, e.Remedy
	}
	return f
}

// dial connects with a secret that was fetched.
func (d *Doctor) dial(ctx context.Context, b *settings.Branch, s remote.Secret) (remote.Backend, error) {
	dialer := assemble.Dialer{Log: d.Log, Agent: d.Agent, Secrets: func(*settings.Branch) remote.SecretSource {
		return func(context.Context) (remote.Secret, error) { return s, nil }
	}}
	return dialer.Dial(ctx, b)
}
