package servers

import (
	"fmt"
	"regexp"
	"strconv"
)

var (
	wrkTotal  = regexp.MustCompile(`(\d+) requests in`)
	wrkErrors = regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`)
)

// WrkLost reads the summary that wrk prints: "12 of 34567". A server that closes
// after every answer without saying so fails wrk at each: "keeps none". Without a
// summary it is an error.
func WrkLost(out string) (string, error) {
	total := wrkTotal.FindStringSubmatch(out)
	if total == nil {
		return "", fmt.Errorf("wrk gives no summary: %q", out)
	}
	all, err := strconv.Atoi(total[1])
	if err != nil {
		return "", err
	}
	lost := 0
	if e := wrkErrors.FindStringSubmatch(out); e != nil {
		for _, text := range e[1:] {
			n, err := strconv.Atoi(text)
			if err != nil {
				return "", err
			}
			lost += n
		}
	}
	if 2*lost > all {
		return "keeps none", nil
	}
	return fmt.Sprintf("%d of %d", lost, all), nil
}
