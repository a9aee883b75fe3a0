package units

import (
	"strconv"
	"strings"
)

// Instance is one instance of an app. Number 0 is the one service of mode 0.
type Instance struct {
	App    string
	Number int
}

// Unit is the name of the unit that the instance runs as.
func (i Instance) Unit() string {
	if i.Number == 0 {
		return Service(i.App)
	}
	return i.App + "@" + strconv.Itoa(i.Number) + ".service"
}

// ParseInstance finds the instance that runs as a unit. It is false for a unit that
// cannot be an app's.
func ParseInstance(unit string) (Instance, bool) {
	name, _ := strings.CutSuffix(unit, ".service")
	app, number, isInstance := strings.Cut(name, "@")
	i := Instance{App: app}
	if isInstance {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 {
			return Instance{}, false
		}
		i.Number = n
	}
	// One instance has one name: shop@03.service is none.
	if !ValidName(app) || i.Unit() != unit {
		return Instance{}, false
	}
	return i, true
}

// Service is the one unit of an app of mode 0.
func Service(app string) string { return app + ".service" }

// ReleaseService is the unit that runs the release command of an app.
func ReleaseService(app string) string { return releasePrefix + app + ".service" }

const releasePrefix = "app-rollout-release@"

// ReleasedApp is the app whose release command a unit runs; "" if it runs none.
func ReleasedApp(unit string) string {
	app, ours := strings.CutPrefix(strings.TrimSuffix(unit, ".service"), releasePrefix)
	if !ours {
		return ""
	}
	return app
}

// Template is the unit that the instances of an app are made of.
func Template(app string) string { return app + "@.service" }
