package problem

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// System is an error of a system call: text says what could not be done at path.
func System(path, text string, err error) *Problem {
	return &Problem{Path: path, Text: text + ": " + trouble(err), Remedy: remedy(err)}
}

// trouble is an error of a system call in words, without the paths that Go adds.
func trouble(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return err.Error()
}

// remedy is what to do about an error of a system call, "" when none is known.
func remedy(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return Sudo(err)
	case errors.Is(err, unix.EAGAIN): // fcntl(2), F_SETLEASE
		return "end the program that holds a lease on it"
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EUCLEAN), errors.Is(err, unix.EBADMSG): // a disk or a file system is damaged
		return "see what the kernel says: dmesg"
	}
	return ""
}

// Shell quotes a path for a command that a person may paste.
func Shell(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool { return !strings.ContainsRune(PlainWord, r) }) {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

// PlainWord are the characters that have no meaning of their own to a shell or to
// systemd.
const PlainWord = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@,+-"

// Printable keeps a file's name from doing anything to a terminal or a log.
func Printable(name string) string {
	if q := strconv.Quote(name); q != `"`+name+`"` {
		return q
	}
	return name
}
