//go:build conformance

package conformance

import "testing"

func judge(t *testing.T, results map[string]string) {}
