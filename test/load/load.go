// Package load is a client that hides nothing. It makes every attempt once, on a
// fresh TCP connection unless told otherwise, and counts how the attempt ended.
//
// (Go's net/http client silently repeats idempotent requests on reused
// connections, and so hides the losses that the stories look for.)
package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Options say which address to ask, and how.
type Options struct {
	Addr     string        `json:"addr"`     // host:port, the host a literal address
	Workers  int           `json:"workers"`  // attempts under way at once; 0 means 16
	Path     string        `json:"path"`     // "" means /
	Timeout  time.Duration `json:"timeout"`  // of a whole attempt, until it is read; 0 means 10 s
	Want     string        `json:"want"`     // a right answer's body contains it; "" takes any body that is not empty
	Pause    time.Duration `json:"pause"`    // between a worker's attempts
	Vary     time.Duration `json:"vary"`     // a pause is longer by up to so much, at random
	Keep     bool          `json:"keep"`     // keep the connections between attempts
	Post     int           `json:"post"`     // with Keep: POST so many bytes, instead of GET
	Look     bool          `json:"look"`     // with Keep: look whether the server has closed, before each attempt
	Stay     bool          `json:"stay"`     // with Keep: keep also the connections that the server wants closed
	Timeline bool          `json:"timeline"` // keep every answer's times
	Once     bool          `json:"once"`     // each worker makes one attempt only
}

// Kind is how an attempt ended.
type Kind string

const (
	OK      Kind = "ok"
	Refused Kind = "REFUSED" // nobody listened
	Reset   Kind = "RESET"   // the connection was reset, at any point
	EOF     Kind = "EOF"     // closed before the whole answer had come
	Timeout Kind = "TIMEOUT" // no whole answer in Options.Timeout
	Wrong   Kind = "WRONG"   // a whole answer, but not 200, or not the body that was wanted
	Local   Kind = "LOCAL"   // the client's own trouble (no socket, no source port)
)

// Answer is one successful attempt. Times are in nanoseconds since 1970, on
// the host's clock, which is the machine's and its journal's too.
type Answer struct {
	Start int64  `json:"s"`
	End   int64  `json:"e"`
	Label string `json:"l"` // the body's first line
}

// Failure is one attempt that failed.
type Failure struct {
	Start  int64  `json:"s"`
	End    int64  `json:"e"`
	Kind   Kind   `json:"kind"`
	Detail string `json:"detail"`
}

// Report is what a run of the client saw.
type Report struct {
	Kinds    map[Kind]int   `json:"kinds"`
	Labels   map[string]int `json:"labels"` // answers by the body's first line
	Start    int64          `json:"start"`
	End      int64          `json:"end"`
	P50      time.Duration  `json:"p50"` // latencies of the attempts that ended well, connect to arrival of the answer's end
	P99      time.Duration  `json:"p99"`
	P999     time.Duration  `json:"p999"`
	Max      time.Duration  `json:"max"`
	Closed   int            `json:"closed"`            // with Options.Look: connections that were found closed, and replaced
	Untimed  int            `json:"untimed"`           // answers that the kernel gave no time, so that of reading was taken
	Answers  []Answer       `json:"answers,omitempty"` // with Options.Timeline, as they were read
	Failures []Failure      `json:"failures,omitempty"`
}

// maxFailures bounds Report.Failures; Report.Kinds counts them all.
const maxFailures = 1000

// Answered is the number of successful attempts.
func (r *Report) Answered() int { return r.Kinds[OK] }

// Lost is the number of failed attempts.
func (r *Report) Lost() int {
	lost := 0
	for kind, n := range r.Kinds {
		if kind != OK {
			lost += n
		}
	}
	return lost
}

// String is one line: what was lost, of how many, and how long answers took.
func (r *Report) String() string {
	s := fmt.Sprintf("%d answered, %d lost", r.Answered(), r.Lost())
	for _, kind := range []Kind{Refused, Reset, EOF, Timeout, Wrong, Local} {
		if n := r.Kinds[kind]; n > 0 {
			s += fmt.Sprintf(", %s %d", kind, n)
		}
	}
	return s + fmt.Sprintf(", p99 %v, p99.9 %v, max %v", r.P99.Round(10*time.Microsecond),
		r.P999.Round(10*time.Microsecond), r.Max.Round(10*time.Microsecond))
}

// Between is the report of the answers and failures that began at or after
// from and ended before to. It needs Options.Timeline.
func (r *Report) Between(from, to time.Time) *Report {
	c := newCollector(true)
	lo, hi := from.UnixNano(), to.UnixNano()
	c.report.Start, c.report.End = lo, hi
	for _, a := range r.Answers {
		if a.Start >= lo && a.End < hi {
			c.answer(a)
		}
	}
	for _, f := range r.Failures {
		if f.Start >= lo && f.End < hi {
			c.fail(f)
		}
	}
	return c.finish()
}

// Of is the report of these answers alone.
func Of(answers []Answer) *Report {
	c := newCollector(false)
	for _, a := range answers {
		c.answer(a)
	}
	return c.finish()
}

type collector struct {
	mu        sync.Mutex
	report    Report
	latencies []time.Duration
	timeline  bool
}

func newCollector(timeline bool) *collector {
	return &collector{timeline: timeline, report: Report{Kinds: map[Kind]int{}, Labels: map[string]int{}}}
}

func (c *collector) answer(a Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Kinds[OK]++
	c.report.Labels[a.Label]++
	c.latencies = append(c.latencies, time.Duration(a.End-a.Start))
	if c.timeline {
		c.report.Answers = append(c.report.Answers, a)
	}
}

func (c *collector) fail(f Failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Kinds[f.Kind]++
	if len(c.report.Failures) < maxFailures {
		c.report.Failures = append(c.report.Failures, f)
	}
}

// kinds is a copy of the counts so far.
func (c *collector) kinds() map[Kind]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	kinds := make(map[Kind]int, len(c.report.Kinds))
	for kind, n := range c.report.Kinds {
		kinds[kind] = n
	}
	return kinds
}

func (c *collector) finish() *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.latencies)
	at := func(q float64) time.Duration {
		if len(c.latencies) == 0 {
			return 0
		}
		return c.latencies[min(int(q*float64(len(c.latencies))), len(c.latencies)-1)]
	}
	c.report.P50, c.report.P99, c.report.P999, c.report.Max = at(0.5), at(0.99), at(0.999), at(1)
	r := c.report
	return &r
}

// Run asks until ctx is done. Attempts under way then are finished, not cut.
// progress, if not nil, is called with the counts so far about ten times a second.
func Run(ctx context.Context, o Options, progress func(map[Kind]int)) *Report {
	if o.Workers == 0 {
		o.Workers = 16
	}
	if o.Path == "" {
		o.Path = "/"
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	c := newCollector(o.Timeline)
	c.report.Start = time.Now().UnixNano()
	release, err := holdStamps()
	if err != nil {
		c.fail(Failure{Start: c.report.Start, End: c.report.Start, Kind: Local, Detail: err.Error()})
		return c.finish()
	}
	defer release()
	var wg sync.WaitGroup
	for range o.Workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var k kept
			defer k.close()
			for ctx.Err() == nil {
				c.attempt(o, &k)
				if o.Once {
					return
				}
				o.rest(ctx)
			}
			c.closed(k.closed)
		}()
	}
	if progress != nil {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-tick.C:
				progress(c.kinds())
			}
		}
	}
	wg.Wait()
	c.report.End = time.Now().UnixNano()
	return c.finish()
}

// rest is the pause between two attempts.
func (o Options) rest(ctx context.Context) {
	pause := o.Pause
	if o.Vary > 0 {
		pause += rand.N(o.Vary)
	}
	if pause <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

func (c *collector) closed(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Closed += n
}

func (c *collector) attempt(o Options, k *kept) {
	start := time.Now()
	do := ask
	if o.Keep {
		do = k.ask
	}
	label, kind, detail, came := do(o, start.Add(o.Timeout))
	now := time.Now()
	if kind != OK {
		c.fail(Failure{Start: start.UnixNano(), End: now.UnixNano(), Kind: kind, Detail: detail})
		return
	}
	if came.IsZero() {
		c.untimed()
		came = now
	}
	c.answer(Answer{Start: start.UnixNano(), End: came.UnixNano(), Label: label})
}

func (c *collector) untimed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Untimed++
}
