// Package step names what a run does, one name a step. The names stand in the
// journal (APP_ROLLOUT_STEP), in the receipts of rollouts and on the screen of
// whoever follows a run.
package step

// The steps of a rollout, in their order.
const (
	Freeze  = "freeze"  // write down what the .env asks for
	Release = "release" // run the release command, if there is one
	Hold    = "hold"    // keep new connections with the instances that serve
	Start   = "start"
	Ready   = "ready"  // wait until each new instance has proved itself
	Shift   = "shift"  // give all new connections to the new instances
	Watch   = "watch"  // see whether they hold under real traffic
	Commit  = "commit" // from here on nothing goes back
	Drain   = "drain"  // wait until the old instances have nothing in hand
	Stop    = "stop"
	Forget  = "forget" // remove what only the rollout needed
)

// What else a run reports.
const (
	Lock     = "lock"     // it waits for another run
	Recover  = "recover"  // it puts right what another run left
	Back     = "back"     // it undoes a rollout
	Again    = "again"    // the .env was changed meanwhile
	Rollback = "rollback" // a person goes back to an earlier generation
	Restart  = "restart"  // new instances of the same generation
	Boot     = "boot"     // it takes over what the boot has started
	Held     = "held"     // it leaves an app alone that was rolled back
	Failed   = "failed"   // it failed for one app
	End      = "end"      // it is over, and failed for several
)

// Committed reports whether a rollout that takes this step no longer goes back.
func Committed(name string) bool {
	switch name {
	case Commit, Drain, Stop, Forget:
		return true
	}
	return false
}
