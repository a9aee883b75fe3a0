// Package bench measures app-rollout beside other ways to deploy, all in one
// run on one machine, and writes what it found to RESULTS.md and the pictures
// beside it. `sudo make bench` runs it. It asserts nothing: how long something
// takes is the machine's affair, so the tables give ratios first.
package bench
