// Package myelin is the root of the module and holds no code: the rules of the
// house, which arch_test.go checks, belong to all packages together.
//
// A program that embeds the broker imports package broker; packet and topic are
// the other public packages. The program itself is cmd/myelin. ARCHITECTURE.md
// has the way of a message through the packages.
package myelin
