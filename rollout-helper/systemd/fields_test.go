package systemd

import (
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// TestLogFields: the fields are those of the run that PID 1 has written down, as long as
// that is the unit's. A file that is cut off says nothing.
func TestLogFields(t *testing.T) {
	file := ""
	for _, field := range []string{"A=b", "SOURCE=/x=y/\xff"} {
		file += string(binary.LittleEndian.AppendUint64(nil, uint64(len(field)))) + field
	}
	whole := map[string]string{"A": "b", "SOURCE": "/x=y/\xff"}
	for _, c := range []struct {
		name, run, file string
		want            map[string]string
	}{
		{"whole", "abcd", file, whole},
		{"of another run", "1234", file, nil},
		{"of no run", "", file, nil},
		{"cut off", "abcd", file[:len(file)-1], nil},
		{"cut off in a length", "abcd", file[:13], nil},
		{"without a name", "abcd", "\x01\x00\x00\x00\x00\x00\x00\x00x", nil},
		{"too long", "abcd", "\xff\xff\xff\xff\xff\xff\xff\xffA=b", nil},
		{"empty", "abcd", "", map[string]string{}},
	} {
		try(t, func(t *testing.T, _ *pid1, m *Manager) {
			m.runs = t.TempDir()
			if c.run != "" {
				if err := os.Symlink(c.run, filepath.Join(m.runs, "invocation:shop@3.service")); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(m.runs, "log-extra-fields:shop@3.service"), []byte(c.file), 0o644); err != nil {
				t.Fatal(err)
			}
			us, err := m.Units(t.Context(), "shop@*.service")
			if err != nil || len(us) != 1 || !maps.Equal(us[0].LogFields, c.want) || (us[0].LogFields == nil) != (c.want == nil) {
				t.Errorf("%s: %+v, %v", c.name, us, err)
			}
		})
	}
}
