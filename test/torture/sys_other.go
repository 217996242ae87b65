//go:build !linux

package main

import "syscall"

// dieWithUs is for Linux only: elsewhere the broker outlives a killed torturer.
func dieWithUs() *syscall.SysProcAttr { return nil }

// filesystem is known on Linux only.
func filesystem(string) string { return "" }
