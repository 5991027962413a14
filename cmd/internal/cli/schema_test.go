package cli

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/fs/control"
)

// TestSchemasAreWhatIsPrinted compares the tables with the types.
func TestSchemasAreWhatIsPrinted(t *testing.T) {
	types := []any{statusReport{}, control.BranchStatus{}, control.Item{}, pending.Left{}}
	list := schemas()
	if len(list) != len(types) {
		t.Fatalf("%d schemas", len(list))
	}
	for i, s := range list {
		var told []string
		for _, f := range s.fields {
			told = append(told, f.name)
			if f.meaning == "" || strings.Contains(f.meaning, "|") {
				t.Errorf("%s: %q means %q", s.title, f.name, f.meaning)
			}
		}
		if printed := jsonNames(reflect.TypeOf(types[i])); !slices.Equal(told, printed) {
			t.Errorf("%s tells\n%q, but it is\n%q", s.title, told, printed)
		}
	}
}

// jsonNames returns the names of a type's fields in JSON.
func jsonNames(of reflect.Type) (names []string) {
	for i := range of.NumField() {
		f := of.Field(i)
		if f.Anonymous {
			names = append(names, jsonNames(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
