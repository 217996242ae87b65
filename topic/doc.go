// Package topic knows the rules for topic names and topic filters: what is valid, what a shared subscription's filter looks like, and which names a
// filter matches. It holds no subscriptions and no messages; Tree is a plain map from filters or names to values, for one goroutine at a time.
//
// Start with ParseFilter and Match in filter.go, then CheckName in check.go, and tree.go for Tree.
//
// Every function works on bytes, level by level, without recursion and in time linear in its input, whatever the number of levels.
package topic
