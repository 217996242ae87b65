package jq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func run(t *testing.T, expr, input string, raw bool) (string, error) {
	t.Helper()
	f, err := Compile(expr)
	if err != nil {
		t.Fatal(err)
	}
	f.Raw = raw
	d := json.NewDecoder(strings.NewReader(input))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	var lines []string
	err = f.Run(t.Context(), v, func(b []byte) error {
		lines = append(lines, string(b))
		return nil
	})
	return strings.Join(lines, "\n"), err
}

func TestRun(t *testing.T) {
	f := func(expr, input string, raw bool, want string) {
		t.Helper()
		got, err := run(t, expr, input, raw)
		if err != nil || got != want {
			t.Errorf("%s on %s: %q, %v, want %q", expr, input, got, err, want)
		}
	}
	f(".payload.t", `{"payload":{"t":21.5}}`, true, "21.5")
	f("select(.t > 20)", `{"t":19}`, true, "")
	f(".b, .a", `{"a":"x\ny","b":[1,{"d":null,"c":true}]}`, false, "[1,{\"c\":true,\"d\":null}]\n\"x\\ny\"")
	f(".a", `{"a":"x"}`, true, "x")
	f(".a", `{"a":12345678901234567890123}`, false, "12345678901234567890123")
	f(".a", `{"a":"\u001b[31m"}`, false, `"\u001b[31m"`)
	f("1, halt, 2", "null", false, "1")
	f("env, $ENV", "null", false, "{}\n{}")
}

func TestErrors(t *testing.T) {
	f := func(expr, input string, want error, text string) {
		t.Helper()
		_, err := run(t, expr, input, false)
		if err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %v %s", expr, err, want, text)
		}
	}
	f(".a", "1", nil, "expected an object")
	f("range(1e9)", "1", ErrResults, "")
	f("[range(1000)] as $x | [range(10000) | $x]", "1", ErrBytes, "")
	f("reduce range(2000) as $i (0; [.])", "1", ErrDepth, "")
	f(`"x" * 1000000 | range(100) as $i | .`, "1", ErrBytes, "")
	f("error(\"no\")", "1", nil, "no")
}

// TestPatience: an expression without an end ends, and so does one whose
// caller has no more interest.
func TestPatience(t *testing.T) {
	f, err := Compile("def f: f; f")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := f.Run(t.Context(), nil, nil); !errors.Is(err, ErrPatience) {
		t.Errorf("%v after %s", err, time.Since(start))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Run(ctx, nil, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestEmitEndsIt(t *testing.T) {
	f, err := Compile("range(1e9)")
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	if err := f.Run(t.Context(), nil, func([]byte) error { return stop }); err != stop {
		t.Error(err)
	}
}

func TestCompileErrors(t *testing.T) {
	f := func(expr, want string) {
		t.Helper()
		_, err := Compile(expr)
		var s *SyntaxError
		if !errors.As(err, &s) || err.Error() != want {
			t.Errorf("%q: %v, want %s", expr, err, want)
		}
	}
	f(".a |", `jq expression ".a |", at 4: unexpected EOF`)
	f(".a ) b", `jq expression ".a ) b", at 4: unexpected token ")"`)
	f("nofunction", `jq expression "nofunction": function not defined: nofunction/0`)
	f("input", `jq expression "input": input(s)/0 is not allowed`)
	f(`include "x"; .`, `jq expression "include \"x\"; .": cannot load module: "x"`)
}

// FuzzRun: whatever the expression and the input, nothing panics and the limits
// hold. Each run is given a moment only.
func FuzzRun(f *testing.F) {
	for _, expr := range []string{".", ".a[0]", "select(.a>1)", "{a,b}", "..|numbers", "@base64", "tojson|fromjson", "limit(3;repeat(.))", ".[1:2]", "path(..)"} {
		f.Add(expr, []byte(`{"a":[1,"x",null,1.5e300],"b":"\u00e9"}`))
	}
	f.Fuzz(func(t *testing.T, expr string, input []byte) {
		if len(expr) > 200 || strings.ContainsAny(expr, "*") {
			return // long multiplications cannot be interrupted
		}
		filter, err := Compile(expr)
		if err != nil {
			return
		}
		var v any
		if json.Unmarshal(input, &v) != nil {
			v = string(input)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		total := 0
		err = filter.Run(ctx, v, func(b []byte) error {
			if total += len(b); !json.Valid(b) {
				return fmt.Errorf("not JSON: %q", b)
			}
			return nil
		})
		if err != nil && strings.HasPrefix(err.Error(), "not JSON") {
			t.Error(err)
		}
		if total > MaxBytes {
			t.Errorf("%d bytes", total)
		}
	})
}
