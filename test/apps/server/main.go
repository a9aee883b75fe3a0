// Command server is the stories' sample app: an HTTP server that answers with
// one line, "<GENERATION> <SYSTEMD_INSTANCE> <pid>", and misbehaves as its
// environment asks. It knows nothing of app-rollout.
//
//	PORT            the port to listen on
//	LISTEN          addresses to listen on instead, separated by commas: host:port,
//	                ":PORT" standing for the variable's value (default 127.0.0.1:PORT)
//	REUSEPORT=1     set SO_REUSEPORT itself
//	GENERATION      the answer's first word (default "-")
//	DELAY           before every answer, a duration ("20ms")
//	STATUS          of every answer (default 200)
//	IDLE            close a connection that is at rest for so long, a duration
//	HANG=1          never answer
//	EXIT_ON=N       exit 1 on the N-th request, without an answer
//	EXIT_AT_START=N exit with status N before listening
//	EXIT_AFTER      exit 1 so long after the start, a duration
//	EXIT_LATER      exit 1 so long after the first request, a duration
//	START_DELAY     before listening, a duration
//	NO_LISTEN=1     listen on nothing, but run
//	NOTIFY=1        send READY=1 once listening (without, never)
//	STOP            on SIGTERM: "graceful" (default: close the listeners, finish
//	                what is under way, close the WebSockets, exit 0), "die" (exit
//	                at once, cutting everything), "ignore"
//	KNOWS           the only Host that GET /health knows
//	MEMORY          bytes to use up before listening, as a number of MiB
//
// GET /?delay=5s delays that one answer; /?until=FILE until there is such a
// file. GET /env?NAME answers with the value
// of a variable. GET /?peer answers with the client's address and port too. GET
// /health answers with HEALTH (a status, default STATUS), and with 400 if the Host header
// is not KNOWS.
// GET /use?N uses up N MiB more before it answers. GET /events?every=2s is a stream
// of server-sent events. GET /ws is a WebSocket that says what it is told; with
// ?every=2s it also says something by itself.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	start := time.Now()
	if code := number("EXIT_AT_START", -1); code >= 0 {
		fmt.Fprintln(os.Stderr, "exiting, as asked")
		os.Exit(code)
	}
	if after := duration("EXIT_AFTER"); after > 0 {
		exitIn(after - time.Since(start))
	}
	hog := use(number("MEMORY", 0))
	time.Sleep(duration("START_DELAY"))

	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	server := &http.Server{Handler: handler(), IdleTimeout: duration("IDLE")}
	served := make(chan error)
	if os.Getenv("NO_LISTEN") != "1" {
		for _, address := range addresses() {
			l, err := listen(address)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			go func() { served <- server.Serve(l) }()
		}
	}
	if os.Getenv("NOTIFY") == "1" {
		if err := notify("READY=1"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	for {
		select {
		case err := <-served:
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		case <-terminated:
		}
		switch os.Getenv("STOP") {
		case "ignore":
			continue
		case "die":
			os.Exit(0)
		}
		// Serve returns as soon as Shutdown begins: nobody must take that for an error.
		go func() {
			for range served {
			}
		}()
		sayGoodbye()
		if err := server.Shutdown(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		_ = hog
		return
	}
}

func handler() http.Handler {
	var (
		requests atomic.Int64
		exitOn   = int64(number("EXIT_ON", 0))
		status   = number("STATUS", http.StatusOK)
		health   = number("HEALTH", status)
		delay    = duration("DELAY")
		later    = duration("EXIT_LATER")
		hang     = os.Getenv("HANG") == "1"
		answer   = fmt.Sprintf("%s %s %d\n", or(os.Getenv("GENERATION"), "-"), or(os.Getenv("SYSTEMD_INSTANCE"), "-"), os.Getpid())
	)
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if name := os.Getenv("KNOWS"); name != "" && r.Host != name {
			http.Error(w, "who is that?", http.StatusBadRequest)
			return
		}
		w.WriteHeader(health)
		fmt.Fprint(w, answer)
	})
	mux.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) {
		name, err := url.QueryUnescape(r.URL.RawQuery)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, os.Getenv(name))
	})
	mux.HandleFunc("/use", func(w http.ResponseWriter, r *http.Request) {
		mib, err := strconv.Atoi(r.URL.RawQuery)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		hog := use(mib)
		fmt.Fprint(w, answer)
		runtime.KeepAlive(hog)
	})
	mux.HandleFunc("/events", events)
	mux.HandleFunc("/ws", webSocket)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if n := requests.Add(1); exitOn > 0 && n >= exitOn {
			fmt.Fprintln(os.Stderr, "exiting on a request, as asked")
			os.Exit(1)
		} else if n == 1 && later > 0 {
			exitIn(later)
		}
		if hang {
			select {}
		}
		wait := delay
		if d, err := time.ParseDuration(r.URL.Query().Get("delay")); err == nil {
			wait = d
		}
		time.Sleep(wait)
		for file := r.URL.Query().Get("until"); file != ""; time.Sleep(10 * time.Millisecond) {
			if _, err := os.Stat(file); err == nil {
				break
			}
		}
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
		if r.URL.Query().Has("peer") {
			fmt.Fprintln(w, r.RemoteAddr)
		}
	})
	return mux
}

// exitIn exits 1 so much later.
func exitIn(d time.Duration) {
	time.AfterFunc(d, func() {
		fmt.Fprintln(os.Stderr, "exiting after a while, as asked")
		os.Exit(1)
	})
}

// addresses are what LISTEN asks for.
func addresses() []string {
	port := os.Getenv("PORT")
	list := strings.Split(or(os.Getenv("LISTEN"), "127.0.0.1:PORT"), ",")
	for i, a := range list {
		list[i] = strings.ReplaceAll(strings.TrimSpace(a), "PORT", port)
	}
	return list
}

func listen(address string) (net.Listener, error) {
	var lc net.ListenConfig
	if os.Getenv("REUSEPORT") == "1" {
		lc.SetMultipathTCP(false)
		lc.Control = func(_, _ string, c syscall.RawConn) (err error) {
			ctlErr := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			})
			if ctlErr != nil {
				return ctlErr
			}
			return err
		}
	}
	return lc.Listen(context.Background(), "tcp", address)
}

// notify is sd_notify(3).
func notify(state string) error {
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(state))
	return err
}

// use allocates memory and writes to all of it.
func use(mib int) []byte {
	hog := make([]byte, mib<<20)
	for i := 0; i < len(hog); i += 4096 {
		hog[i] = 1
	}
	return hog
}

func duration(name string) time.Duration {
	text := os.Getenv(name)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(2)
	}
	return d
}

func number(name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(2)
	}
	return n
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
