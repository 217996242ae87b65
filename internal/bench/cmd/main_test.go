//go:build linux

package main

import (
	"context"
	"strings"
	"testing"
)

func TestBadFlags(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"-run (", "read -run"},
		{"-run nothinglikethis", "no load matches"},
		{"-seconds 0", "-seconds has to be"},
		{"-rounds 0", "-rounds between"},
		{"more", `unexpected argument "more"`},
		{"-brokers other -run p2p-q0-v311", "the brokers are"},
		{"-brokers myelin -myelin /nonexistent/myelin -run p2p-q0-v311", "find myelin"},
		{"-nosuchflag", "not defined"},
	} {
		var out, errs strings.Builder
		err := run(context.Background(), strings.Fields(c.args), &out, &errs)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", c.args, err, c.want)
		}
	}
}

func TestList(t *testing.T) {
	var out, errs strings.Builder
	if err := run(context.Background(), []string{"-list", "-run", "^paced"}, &out, &errs); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 2 || !strings.HasPrefix(out.String(), "paced-q0 ") {
		t.Errorf("got %q", out.String())
	}
}
