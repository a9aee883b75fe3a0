package systemd

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
)

// logFields reads the extra log fields of a unit's run, which PID 1 writes down for
// journald when it starts the process. A later daemon-reload changes what is loaded,
// and not them. So they tell what a process was started from, and neither the process
// nor its user can change them. Its environment in /proc it could overwrite.
//
// Each field has its length before it: 64 bits, the low byte first
// (unit_export_log_extra_fields in systemd's src/core/unit.c). As with the links in the
// same directory, systemd does not promise that: see written.
func (m *Manager) logFields(unit string) map[string]string {
	data, err := os.ReadFile(filepath.Join(m.runs, "log-extra-fields:"+unit))
	if err != nil {
		return nil
	}
	fields := make(map[string]string)
	for len(data) >= 8 {
		size := binary.LittleEndian.Uint64(data)
		if data = data[8:]; size > uint64(len(data)) {
			return nil
		}
		name, value, ok := bytes.Cut(data[:size], []byte("="))
		if !ok {
			return nil
		}
		fields[string(name)] = string(value)
		data = data[size:]
	}
	if len(data) > 0 {
		return nil
	}
	return fields
}
