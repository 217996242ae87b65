package main

import "syscall"

// dieWithUs ends the broker with this program, whatever ends it.
func dieWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// filesystem names the kind of file system that dir is on, as far as a durable store cares.
func filesystem(dir string) string {
	var s syscall.Statfs_t
	if syscall.Statfs(dir, &s) != nil {
		return ""
	}
	switch s.Type {
	case 0x01021994:
		return "tmpfs: nothing is on a disk"
	case 0xEF53:
		return "ext4"
	case 0x58465342:
		return "xfs"
	case 0x9123683E:
		return "btrfs"
	case 0x794C7630:
		return "overlayfs"
	}
	return ""
}
