//go:build story

package test

import (
	"fmt"
	"os"
	"testing"

	"app-rollout/test/machine"
)

// TestMain fails the run if the kernel has meanwhile told of a fault of its own.
func TestMain(m *testing.M) {
	kernel, err := machine.OpenKernelLog()
	if err != nil {
		fmt.Println("the kernel's log is not looked at:", err)
	}
	status := m.Run()
	if kernel != nil {
		for _, line := range kernel.Trouble() {
			fmt.Println("FAIL: the kernel says:", line)
			status = 1
		}
	}
	os.Exit(status)
}
