// Package jq runs a jq expression over messages, one after the other, within
// limits. It holds the one place where gojq is used, and its limits; what a
// message looks like to the expression is package show's matter.
//
// Start with Compile.
package jq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/itchyny/gojq"

	"github.com/myelin-mqtt/myelin/internal/show"
)

// Limits of one Run.
const (
	// Patience is how long an expression may take for one message.
	Patience = time.Second
	// MaxResults is how many results it may have.
	MaxResults = 10_000
	// MaxBytes is how long they may be together, and MaxDepth how deep each.
	MaxBytes = 16 << 20
	MaxDepth = 1_000
)

// Errors of a Run.
var (
	ErrPatience = fmt.Errorf("takes longer than %s", Patience)
	ErrResults  = fmt.Errorf("has more than %d results", MaxResults)
	ErrBytes    = fmt.Errorf("has results of more than %d MiB", MaxBytes>>20)
	ErrDepth    = fmt.Errorf("has a result deeper than %d", MaxDepth)
)

// SyntaxError is why an expression is none.
type SyntaxError struct {
	Expr   string
	Offset int // in bytes, where it was noticed; -1: unknown
	Err    error
}

// Error names the place.
func (e *SyntaxError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("jq expression %q: %v", e.Expr, e.Err)
	}
	return fmt.Sprintf("jq expression %q, at %d: %v", e.Expr, e.Offset, e.Err)
}

func (e *SyntaxError) Unwrap() error { return e.Err }

// Filter is an expression, ready to run. It reads neither files nor the
// environment.
type Filter struct {
	code *gojq.Code
	// Raw has results that are text without quotes.
	Raw bool
}

// Compile makes a Filter of an expression. The error is a *SyntaxError.
func Compile(expr string) (*Filter, error) {
	query, err := gojq.Parse(expr)
	if err != nil {
		e := &SyntaxError{Expr: expr, Offset: -1, Err: err}
		var parse *gojq.ParseError
		if errors.As(err, &parse) {
			e.Offset = parse.Offset
		}
		return nil, e
	}
	code, err := gojq.Compile(query)
	if err != nil {
		return nil, &SyntaxError{Expr: expr, Offset: -1, Err: err}
	}
	return &Filter{code: code}, nil
}

// Run hands out each result for the input, as JSON on one line, without its
// end. The slice is good until the next call. It ends with the first error: of
// the expression, of the limits, or of emit.
func (f *Filter) Run(ctx context.Context, input any, emit func([]byte) error) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, Patience, ErrPatience)
	defer cancel()
	defer func() {
		// A fault of the interpreter ends one message, not the program.
		if r := recover(); r != nil {
			err = fmt.Errorf("jq failed: %v", r)
		}
	}()
	results := f.code.RunWithContext(ctx, input)
	var b []byte
	for n, total := 0, 0; ; n++ {
		v, more := results.Next()
		if !more {
			return nil
		}
		if err, failed := v.(error); failed {
			return reason(ctx, err)
		}
		if n == MaxResults {
			return ErrResults
		}
		if b, err = f.append(b[:0], v); err != nil {
			return err
		}
		if total += len(b); total > MaxBytes {
			return ErrBytes
		}
		if err := emit(b); err != nil {
			return err
		}
	}
}

// reason is an error of the interpreter in our words; nil where the expression
// ended by itself, with halt.
func reason(ctx context.Context, err error) error {
	var halt *gojq.HaltError
	switch {
	case errors.As(err, &halt) && halt.Value() == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

func (f *Filter) append(b []byte, v any) ([]byte, error) {
	if s, ok := v.(string); ok && f.Raw {
		return append(b, s...), nil
	}
	return appendValue(b, v, 0)
}

// appendValue adds JSON on one line, with the names in order.
func appendValue(b []byte, v any, depth int) ([]byte, error) {
	if depth > MaxDepth {
		return b, ErrDepth
	}
	if len(b) > MaxBytes {
		return b, ErrBytes
	}
	var err error
	switch v := v.(type) {
	case string:
		return show.AppendString(b, v), nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case []any:
		b = append(b, '[')
		for i, x := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendValue(b, x, depth+1); err != nil {
				return b, err
			}
		}
		return append(b, ']'), nil
	case map[string]any:
		b = append(b, '{')
		for i, name := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(show.AppendString(b, name), ':')
			if b, err = appendValue(b, v[name], depth+1); err != nil {
				return b, err
			}
		}
		return append(b, '}'), nil
	}
	scalar, err := gojq.Marshal(v) // nil, true, false and the other numbers
	return append(b, scalar...), err
}
