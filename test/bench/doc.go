// Package bench measures app-rollout beside other ways to deploy, in one run on one
// machine, and writes the results to RESULTS.md and the pictures beside it. `sudo make
// bench` runs it. It asserts nothing, because times depend on the machine. For the
// same reason the tables give ratios first.
package bench
