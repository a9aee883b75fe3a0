package units

import (
	"bytes"
	"maps"
	"slices"
)

// Environment is the text of the EnvironmentFile=, from which systemd gives the
// instances exactly the values of the .env. Each value is in double quotes, with a
// backslash before the four characters that have a meaning there (env-file.c).
// Every other byte stands as it is.
func (s *Spec) Environment() []byte {
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		out.WriteString(name)
		out.WriteByte('=')
		quoteValue(&out, s.Env[name])
		out.WriteByte('\n')
	}
	return out.Bytes()
}

func quoteValue(out *bytes.Buffer, value string) {
	out.WriteByte('"')
	for i := range len(value) {
		switch value[i] {
		case '"', '\\', '$', '`':
			out.WriteByte('\\')
		}
		out.WriteByte(value[i])
	}
	out.WriteByte('"')
}
