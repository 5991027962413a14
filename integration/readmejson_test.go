package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/integration/harness"
)

// TestReadmeJSON compares what the README tells of the commands' JSON with what the
// program tells of it.
func TestReadmeJSON(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repoRoot(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	tables := harness.Run(t, ".", harness.Program(t), "man", "--markdown")
	found := 0
	for _, part := range strings.Split(tables, "| field |")[1:] {
		rows, _, _ := strings.Cut(part, "\n\n")
		found++
		if table := "| field |" + rows + "\n"; !strings.Contains(string(text), table) {
			t.Errorf("the README has not\n%s", table)
		}
	}
	if told := strings.Count(string(text), "| field |"); found < 4 || told != found {
		t.Errorf("%d tables in the README, %d of the program", told, found)
	}
}
