package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"app-rollout/units/problem"
)

// What a run ends with says what to type then, once, at its end.
func TestComplete(t *testing.T) {
	const again = "app-rollout rollback shop"
	for name, c := range map[string]struct {
		err  error
		want string // text | remedy, one line for each problem
	}{
		"nothing":     {nil, ""},
		"a failure":   {&Failure{"shop@3.service", "exited with status 3"}, "shop@3.service exited with status 3 | see: journalctl -b -u shop@3.service; when that is mended: " + again},
		"a problem":   {&problem.Problem{Path: "/x", Line: 2, Text: "is bad", Remedy: "mend it"}, "/x:2: is bad | mend it; when that is mended: " + again},
		"any":         {fmt.Errorf("open: %w", fs.ErrExist), "open: file already exists | when that is mended: " + again},
		"told":        {told("the port is taken", "stop it, then: x"), "the port is taken | stop it, then: x"},
		"interrupted": {context.Canceled, "the run was interrupted | to begin anew: " + again},
		"two": {errors.Join(&problem.Problem{Text: "a", Remedy: "b"}, &problem.Problem{Text: "c"}),
			"a | b\nc | when that is mended: " + again},
	} {
		got := ""
		for i, err := range problem.Each(complete(c.err, again)) {
			e, ok := err.(*RunError)
			if !ok {
				t.Fatalf("%s: %T", name, err)
			}
			if i > 0 {
				got += "\n"
			}
			got += e.What() + " | " + e.Remedy
			if e.cause != nil && !errors.Is(err, e.cause) {
				t.Errorf("%s: the cause is lost", name)
			}
		}
		if got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, c.want)
		}
	}
	if e := runError(&Failure{"shop@3.service", "ended"}); e.Unit != "shop@3.service" {
		t.Errorf("the unit is %q", e.Unit)
	}
}
