package rollout

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"app-rollout/units/problem"
)

// batch is what the apps of one run share: the daemon-reloads and the CPUs.
//
// An app goes through it in three stages. It prepares: as many apps at a time as there
// are CPUs. If systemd has to read its units before they start, it waits until the
// others have prepared too, so that one daemon-reload does for all of them. Then it
// waits for its turn to start: see turns. Its own time to become ready begins with its
// turn.
//
// A daemon-reload blocks PID 1 for longer the more units the machine has. One that only
// tidies up is owed until all apps have ended.
//
// A nil batch is that of an app alone.
type batch struct {
	ctx    context.Context
	reload func(context.Context) error
	turns  *turns

	mu     sync.Mutex
	coming map[string]func() // the apps that prepare, or have not begun; what gives an app's place to the next one
	next   *gathering        // nil if no app waits for a daemon-reload
	owing  []string          // the apps that a daemon-reload is owed to
	busy   int               // how many have had their turn and have not ended
}

const (
	// place is how long an app keeps its place among those that prepare. If it takes
	// longer, it waits for something: a lock, or old instances that end.
	place = time.Second
	// patience is how long apps that need a daemon-reload wait for others, if none of
	// these gets on.
	patience = 2 * time.Second
)

// gathering are apps that wait for the same daemon-reload.
type gathering struct {
	late *time.Timer
	done chan struct{} // closed when err is set
	err  error
}

func newBatch(ctx context.Context, apps []string, slots int, reload func(context.Context) error) *batch {
	b := &batch{ctx: ctx, reload: reload, turns: newTurns(apps, slots), coming: make(map[string]func(), len(apps))}
	for _, app := range apps {
		b.coming[app] = func() {}
	}
	return b
}

// begin says that an app begins to prepare, in a place that give gives to the next one.
func (b *batch) begin(app string, give func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.coming[app] = give
}

// pass says that an app needs no daemon-reload before it goes on. To say it again does
// nothing.
func (b *batch) pass(app string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.arrive(app)
}

// arrive takes an app from those that the others wait for.
func (b *batch) arrive(app string) {
	give, coming := b.coming[app]
	if !coming {
		return
	}
	delete(b.coming, app)
	give()
	if b.next != nil {
		b.next.late.Reset(patience)
	}
	b.depart()
}

// depart lets the daemon-reload begin, if nobody is waited for any more.
func (b *batch) depart() {
	if b.next != nil && len(b.coming) == 0 {
		b.next.late.Reset(0)
	}
}

// reread has systemd read the units of an app anew, and of those that want it too.
func (b *batch) reread(ctx context.Context, app string) error {
	b.mu.Lock()
	g := b.next
	if g == nil {
		g = &gathering{done: make(chan struct{})}
		g.late = time.AfterFunc(patience, func() { b.read(g) })
		b.next = g
	}
	b.arrive(app)
	b.depart()
	b.mu.Unlock()
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read does the daemon-reload for all who wait for it. Those who come from here on need
// another one.
func (b *batch) read(g *gathering) {
	b.mu.Lock()
	if b.next != g {
		b.mu.Unlock()
		return
	}
	b.next = nil
	b.mu.Unlock()
	g.err = b.reload(b.ctx)
	close(g.done)
}

// owe notes that systemd has units of an app loaded that are to be gone.
func (b *batch) owe(app string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Contains(b.owing, app) {
		b.owing = append(b.owing, app)
	}
}

// settle does the daemon-reload that is owed, and returns its error for each app that
// it was owed to.
func (b *batch) settle(results []Result) {
	if len(b.owing) == 0 {
		return
	}
	err := b.reload(context.WithoutCancel(b.ctx))
	if err == nil {
		return
	}
	for i, r := range results {
		if slices.Contains(b.owing, r.App) {
			results[i].Err = errors.Join(r.Err, notReloaded(err))
		}
	}
}

// notReloaded says what it means that a daemon-reload failed which only tidies up.
func notReloaded(err error) error {
	return told("systemd still has old units loaded, because it could not read its files anew: "+problem.Of(err).What(), "when that is mended: systemctl daemon-reload")
}

// turn waits until it is an app's turn to start, with as many CPUs as it takes. give ends
// the turn; to call it again does nothing.
func (b *batch) turn(ctx context.Context, app string, cpus int) (give func(), err error) {
	if b == nil {
		return func() {}, nil
	}
	b.pass(app)
	return b.turns.wait(ctx, app, cpus)
}

// work counts an app among those that look again and again, until done is called.
func (b *batch) work() (done func()) {
	if b == nil {
		return func() {}
	}
	count := func(n int) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.busy += n
	}
	count(1)
	return func() { count(-1) }
}

// crowd is how many apps look at every tick. If there are more, each looks less often,
// or looking would take all of the CPUs.
const crowd = 4

// pause is the time between two looks of an app.
func (b *batch) pause() time.Duration {
	if b == nil {
		return tick
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return tick * time.Duration(max(1, b.busy/crowd))
}

// reread has systemd read the units of an app before they are started. In a run for
// several apps they share the daemon-reload.
func (m *Machine) reread(ctx context.Context, app string) error {
	if m.batch == nil {
		return m.Systemd.Reload(ctx)
	}
	return m.batch.reread(ctx, app)
}

// unload has systemd forget units that are to be gone. In a run for several apps that
// is done once, at the end.
func (m *Machine) unload(ctx context.Context, app string) error {
	if m.batch == nil {
		return m.Systemd.Reload(ctx)
	}
	m.batch.owe(app)
	return nil
}
