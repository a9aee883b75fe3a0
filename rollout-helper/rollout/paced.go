package rollout

import (
	"runtime"
	"sync"
	"time"
)

// half of the CPUs is how many instances of an app start or stop at a time. The other
// half is left to those that serve.
func half() int { return max(1, runtime.NumCPU()/2) }

// A pace lets things be done, as many at a time as it has slots. Each gives its slot to
// the next one when it ends or, if it takes longer, when the slot's time is over. By then
// it waits for something and needs no CPU, so a slow one does not delay the others.
type pace struct {
	busy chan struct{}
	slot time.Duration
	all  sync.WaitGroup
}

func newPace(slots int, slot time.Duration) *pace {
	return &pace{busy: make(chan struct{}, slots), slot: slot}
}

// begin waits for a slot, and then begins to do. That may give its slot by itself; to
// give it again does nothing.
func (p *pace) begin(do func(give func())) {
	p.busy <- struct{}{}
	give := sync.OnceFunc(func() { <-p.busy })
	timer := time.AfterFunc(p.slot, give)
	p.all.Add(1)
	go func() {
		defer p.all.Done()
		do(give)
		timer.Stop()
		give()
	}()
}

// free reports whether begin would not wait, if nobody else begins anything.
func (p *pace) free() bool { return len(p.busy) < cap(p.busy) }

// wait waits until all that was begun has ended.
func (p *pace) wait() { p.all.Wait() }

// paced does n things at a pace.
func paced(n, slots int, slot time.Duration, do func(i int, give func())) {
	p := newPace(slots, slot)
	for i := range n {
		p.begin(func(give func()) { do(i, give) })
	}
	p.wait()
}
