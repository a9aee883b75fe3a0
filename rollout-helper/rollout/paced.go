package rollout

import (
	"runtime"
	"sync"
	"time"
)

// half of the CPUs is how many instances of an app start or stop at a time. The other
// half is left to those that serve.
func half() int { return max(1, runtime.NumCPU()/2) }

// paced does n things, at most slots of them at a time. Each gives its slot to the next
// one when it ends or, if it takes longer, when the slot's time is over. By then it
// waits for something and needs no CPU, so a slow one does not delay the others. It may
// also give it by itself; to give it again does nothing.
func paced(n, slots int, slot time.Duration, do func(i int, give func())) {
	busy := make(chan struct{}, slots)
	var all sync.WaitGroup
	for i := range n {
		busy <- struct{}{}
		give := sync.OnceFunc(func() { <-busy })
		timer := time.AfterFunc(slot, give)
		all.Add(1)
		go func() {
			defer all.Done()
			do(i, give)
			timer.Stop()
			give()
		}()
	}
	all.Wait()
}
