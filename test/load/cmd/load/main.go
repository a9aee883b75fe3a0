// Command load asks one HTTP address over and over, each time on a fresh
// connection unless -keep is given, until its standard input closes, SIGTERM or SIGINT comes, or
// -for has passed. Its output is lines of JSON, see load.Line: the counts so
// far, about ten times a second, and last the report.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"app-rollout/test/load"
)

func main() {
	var o load.Options
	flag.StringVar(&o.Addr, "addr", "127.0.0.1:8080", "`host:port` to ask")
	flag.IntVar(&o.Workers, "workers", 16, "attempts under way at once")
	flag.StringVar(&o.Path, "path", "/", "what to GET")
	flag.DurationVar(&o.Timeout, "timeout", 10*time.Second, "of a whole attempt")
	flag.StringVar(&o.Want, "want", "", "what a right answer's body contains")
	flag.DurationVar(&o.Pause, "pause", 0, "between a worker's attempts")
	flag.DurationVar(&o.Vary, "vary", 0, "a pause is longer by up to so much, at random")
	flag.IntVar(&o.Post, "post", 0, "with -keep: POST so many bytes, instead of GET")
	flag.BoolVar(&o.Look, "look", false, "with -keep: look whether the server has closed, before each attempt")
	flag.BoolVar(&o.Stay, "stay", false, "with -keep: keep also the connections that the server wants closed")
	flag.BoolVar(&o.Keep, "keep", false, "keep the connections between attempts")
	flag.BoolVar(&o.Timeline, "timeline", false, "report every answer's times")
	flag.BoolVar(&o.Once, "once", false, "one attempt for each worker")
	length := flag.Duration("for", 0, "how long to ask; 0 is until told to stop")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "load: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if *length > 0 {
		ctx, stop = context.WithTimeout(ctx, *length)
		defer stop()
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	lines := json.NewEncoder(out)
	report := load.Run(ctx, o, func(kinds map[load.Kind]int) {
		lines.Encode(load.Line{Kinds: kinds})
		out.Flush()
	})
	err := lines.Encode(load.Line{Report: report})
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "load: %v\n", err)
		os.Exit(1)
	}
}
