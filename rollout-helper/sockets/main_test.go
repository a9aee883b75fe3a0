package sockets_test

import (
	"testing"

	"app-rollout/rollout-helper/sockets/socktest"
)

func TestMain(m *testing.M) { socktest.Main(m) }
