// Package advice has what the messages of the program recommend, and how the tests
// follow it. A test holds that nothing is missing. In the texts "…" stands for what is
// put in when a message is made.
//
// A spelling is tried here: the .env before and after. A command is typed by the story
// TestAdvice on a machine.
package advice

// Spelling is what an .env is to say instead. Each text is the whole .env.
type Spelling struct {
	Advice string
	Before string            // is told the advice
	After  string            // follows it, and is not told it any more
	Want   map[string]string // values that the app gets then
}

// Command is what a person types, on a machine with a good app shop that runs.
type Command struct {
	Advice string
	Before string // a script: it makes what is wrong
	Ask    string // the command that recommends something; "" is `app-rollout check shop`
	// Do follows the advice. $1, $2 … are what stands for each "…" in it. "" types the
	// advice itself, from its first command on.
	Do string
	// Then must succeed afterwards; "" is `app-rollout run shop`. Ask no longer says
	// the advice then, unless Stays.
	Then  string
	Stays bool
}

// exec begins most of the .env files below.
const exec = "SYSTEMD_EXEC_START=/usr/bin/app\n"

// Elsewhere are the remedies that another test follows.
var Elsewhere = map[string]string{
	"set SYSTEMD_WORKING_DIRECTORY=…":             "TestCapistrano",
	"set SYSTEMD_WORKING_DIRECTORY='…'":           "TestCapistrano",
	"then …":                                      "TestCapistrano",
	"set SYSTEMD_READ_WRITE_PATHS='…'":            "TestCapistrano",
	"move the .env up, as …: mv … … && ln -s … …": "TestCapistrano",
	"run the server itself, in a script with exec before it, or set SYSTEMD_KILL_MODE=control-group": "TestWrappers",
	"see: journalctl -b -u …":            "TestNewUser",
	"journalctl -b …":                    "TestNewUser",
	"when that is mended: …":             "TestNewUser",
	"; mend it, then: app-rollout run …": "TestNewUser",
	"app-rollout run …":                  "TestNewUser",
	"to begin anew: …":                   "TestInterrupt",
	"see: journalctl -b -u …; to change the address, stop the app (systemctl stop …), then: …": "TestNobodyElseOnThePort",
	"to roll it out: …":                           "TestRelease",
	"stop it or give one of them another port":    "TestNobodyElseOnThePort",
	"try sudo, or join the group systemd-journal": "TestLogsLater",
	"move its directory away":                     "TestDamage",
	"… puts it right":                             "TestFaults",
	"app-rollout run":                             "TestFaults",
	"remove the line and set …= in a drop-in: systemctl edit --force …":  "TestForeignUnits",
	"move … to a directory of …, or give it to …":                        "TestForeignUnits",
	"…; after that, changes go into a drop-in: systemctl edit --force …": "TestForeignUnits",
	"mv … ….off && systemctl daemon-reload":                              "TestForeignUnits",
	"rm … && systemctl daemon-reload":                                    "TestForeignUnits",
	"systemctl daemon-reload":                                            "TestForeignUnits",
	"systemctl revert …":                                                 "TestForeignUnits",
	"let them listen on PORT, or set SYSTEMD_CLUSTER_MODE=0, or give each instance a path of its own, with $SYSTEMD_INSTANCE in a sh -c": "TestNothingToSteer",
	"… …, but nobody reaches it at … any more: systemctl restart …":                                                                      "TestNothingToSteer",
	"stop the app (systemctl stop …), then: …":                                                                                           "TestNothingToSteer",

	// Without a machine, because what they are said of is rare, or takes long there.
	"see what the kernel says: dmesg":                                  "TestDamagedDisk",
	"remove those that are not needed":                                 "TestTooManyApps",
	"see: app-rollout check …":                                         "TestBootStaysAstray",
	"see app-rollout check":                                            "TestGaveUp",
	"when the machine is less busy: systemctl daemon-reload":           "TestGaveUp",
	"stop it: systemctl stop …":                                        "TestNotStopped",
	"stop … (systemctl stop …), then: …":                               "TestServiceBeside",
	"let it listen on another one, then: …":                            "TestBindsAnothers",
	"give … another PORT, roll it out, then: …":                        "TestRollbackToAnothers",
	"when it is at rest: app-rollout run …":                            "TestLookAgain",
	"app-rollout history … says why, app-rollout run … tries it again": "TestBootTries",
	"generation … is up; what the .env asks for failed before (generation …) and is not tried again by itself: app-rollout run … tries it": "TestBootTries",
}

// Untried are the remedies that no test follows, and why. There is none.
var Untried = map[string]string{}
