//go:build unix

package cli

import (
	"os/exec"
	"syscall"
)

// endWithChildren gives a command a process group of its own, which ends with
// it.
func endWithChildren(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
