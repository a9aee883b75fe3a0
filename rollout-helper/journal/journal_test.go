package journal

import "testing"

func TestParseRecord(t *testing.T) {
	r, ok := parseRecord([]byte(`{"__CURSOR":"c","APP_ROLLOUT_APP":"shop","APP_ROLLOUT_STEP":"failed","APP_ROLLOUT_INSTANCE":"shop@3.service","PRIORITY":"3","MESSAGE":[104,105]}`))
	if !ok || !r.Failed() || r.Text != "hi" || r.App != "shop" || r.Unit != "shop@3.service" || r.Cursor != "c" {
		t.Errorf("%v %+v", ok, r)
	}
	if _, ok := parseRecord([]byte("-- No entries --")); ok {
		t.Error("taken for a record")
	}
}

// An app's log cannot move a terminal's cursor.
func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[2Jb\tc\r\u009bd é \x1b[1;31merror\x1b[0m"); got != "ab\tcd é error" {
		t.Errorf("%q", got)
	}
}
