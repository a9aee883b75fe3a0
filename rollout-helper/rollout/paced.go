package rollout

import (
	"runtime"
	"sync"
	"time"
)

// half of the CPUs is how many instances of an app start or stop at a time: the
// other half is left to those that serve.
func half() int { return max(1, runtime.NumCPU()/2) }

// paced does n things side by side: as many as there are slots begin at once.
// One that takes longer than a slot lasts waits for something, and another may
// begin beside it: a slow one delays none.
func paced(n, slots int, slot time.Duration, do func(i int)) {
	taken := make(chan struct{}, slots)
	var all sync.WaitGroup
	for i := range n {
		taken <- struct{}{}
		give := sync.OnceFunc(func() { <-taken })
		timer := time.AfterFunc(slot, give)
		all.Add(1)
		go func() {
			defer all.Done()
			do(i)
			timer.Stop()
			give()
		}()
	}
	all.Wait()
}
