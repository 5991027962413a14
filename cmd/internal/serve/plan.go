// Package serve runs a mount: the part of meshmount that lives as long as the mount
// does. Start hands a complete plan to a fresh process of this same program, in the
// background or in place of the present one; Run is that process.
//
// The plan, secrets included, goes through a pipe or an anonymous memory file, never
// through arguments or environment, and the new process starts without the variables
// that held secrets: /proc shows none of them.
package serve

import (
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/meshmount/meshmount/cmd/internal/assemble"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/remote"
)

// Plan is all that a serving process needs to know.
type Plan struct {
	Config   settings.Config
	Point    string // real name of the mount point
	CacheDir string
	Kernel   []string // further mount options
	Version  string   // of the program, for servers and log
	Memory   assemble.Memory
	// Secrets are the passwords and tokens that were fetched, by branch.
	Secrets Secrets `json:"-"`
}

// Secrets are secrets by the name of their branch. Only send writes them out.
type Secrets map[string]remote.Secret

// wire is a Plan with its secrets in clear.
type wire struct {
	Plan    Plan
	Secrets map[string]string
}

// send writes the plan, with its secrets in clear.
func (p *Plan) send(w io.Writer) error {
	message := wire{Plan: *p, Secrets: map[string]string{}}
	for branch, secret := range p.Secrets {
		message.Secrets[branch] = secret.Reveal()
	}
	return json.NewEncoder(w).Encode(message)
}

// receive reads what send wrote.
func receive(r io.Reader) (*Plan, error) {
	var message wire
	if err := json.NewDecoder(r).Decode(&message); err != nil {
		return nil, err
	}
	p := message.Plan
	p.Secrets = Secrets{}
	for branch, text := range message.Secrets {
		p.Secrets[branch] = remote.NewSecret(text)
	}
	return &p, nil
}

// Receive reads the plan from a descriptor that Start has passed, and closes it.
func Receive(fd int) (*Plan, error) {
	file := os.NewFile(uintptr(fd), "plan")
	if file == nil {
		return nil, errors.New("no plan")
	}
	defer func() { _ = file.Close() }()
	return receive(file)
}
