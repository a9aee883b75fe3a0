package rollout

import "testing"

func TestLine(t *testing.T) {
	for _, c := range []struct {
		event           Event
		line, app, text string
	}{
		{Event{App: "shop", Text: "is bad", Remedy: "mend it"}, "shop: is bad; mend it", "shop", "is bad; mend it"},
		{Event{App: "shop", Text: "a\nb"}, "shop: a; b", "shop", "a; b"},
		{Event{Text: "2 of 3 apps failed"}, "2 of 3 apps failed", "", ""},
	} {
		line := c.event.Line()
		text, ok := About(line, c.app)
		if line != c.line || ok != (c.app != "") || ok && text != c.text {
			t.Errorf("%q: %q, %v", line, text, ok)
		}
		if _, ok := About(line, "shop2"); ok {
			t.Errorf("%q is taken for another app's", line)
		}
	}
}
