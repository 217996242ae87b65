package myelin_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/myelin-mqtt/myelin"

// layers says what a package may import besides the standard library: packages
// of this module by folder, and other modules' by prefix. A package that is not
// here fails the test; so does an arrow that points upwards. The last row that
// is the package's folder, or a parent of it, counts. ARCHITECTURE.md shows the
// same table.
var layers = []struct {
	folder string
	may    []string
}{
	{".", nil},
	{"packet", nil},
	{"topic", nil},

	{"internal/ids", nil},
	{"internal/qos", []string{"packet"}},
	{"internal/route", []string{"packet", "topic"}},
	{"internal/session", []string{"packet", "topic", "internal/qos", "internal/route"}},
	{"internal/store", []string{"packet", "topic", "internal/route", "internal/qos"}},
	{"internal/store/mem", []string{"packet", "topic", "internal/qos", "internal/route", "internal/session", "internal/store"}},
	{"internal/store/disk", []string{"packet", "topic", "internal/ids", "internal/qos", "internal/route", "internal/session", "internal/store", "github.com/cockroachdb/pebble/v2", "github.com/cockroachdb/pebble/v2/vfs", "github.com/cockroachdb/pebble/v2/sstable"}},
	{"internal/store/storetest", []string{"packet", "topic", "internal/route", "internal/store"}},
	{"internal/transport", []string{"internal/transport/ws", "golang.org/x/sys/unix"}},
	{"internal/transport/ws", nil},

	{"broker", []string{"packet", "topic", "internal/ids", "internal/qos", "internal/route", "internal/session", "internal/store", "internal/store/mem", "internal/store/disk", "internal/transport"}},

	{"internal/scram", nil},
	{"internal/auth", []string{"packet", "broker", "internal/scram", "golang.org/x/crypto/argon2", "golang.org/x/crypto/bcrypt"}},

	{"internal/dial", []string{"github.com/coder/websocket", "software.sslmate.com/src/go-pkcs12"}},
	{"client", []string{"packet", "topic", "internal/qos", "internal/dial"}},

	{"internal/control", []string{"broker", "internal/store/disk"}},
	{"internal/certs", nil},
	{"internal/config", []string{"internal/certs", "go.yaml.in/yaml/v3"}},
	{"internal/acl", []string{"packet", "topic", "broker", "internal/config", "go.yaml.in/yaml/v3", "github.com/expr-lang/expr", "github.com/expr-lang/expr/ast", "github.com/expr-lang/expr/vm"}},
	{"internal/cli", []string{"packet", "topic", "broker", "client", "internal/auth", "internal/certs", "internal/dial", "internal/load", "internal/check", "internal/show", "internal/jq", "internal/watch", "internal/acl", "internal/config", "internal/control", "internal/store/disk", "github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/term", "github.com/HdrHistogram/hdrhistogram-go"}},
	{"internal/show", []string{"packet", "client"}},
	{"internal/jq", []string{"internal/show", "github.com/itchyny/gojq"}},
	{"internal/watch", []string{"internal/show"}},
	{"internal/load", []string{"packet", "topic", "client", "github.com/HdrHistogram/hdrhistogram-go", "go.yaml.in/yaml/v3"}},
	{"internal/check", []string{"packet", "internal/dial"}},
	{"cmd/myelin", []string{"internal/cli"}},

	{"internal/bench", []string{"packet", "topic", "internal/bench", "github.com/HdrHistogram/hdrhistogram-go", "golang.org/x/sys/unix"}},
	{"test", []string{"packet", "topic", "broker", "client", "test"}},
	{"examples", public},
}

// public are the packages that other modules can import.
var public = []string{"packet", "topic", "broker", "client"}

// pure packages have no clock, no goroutine and no I/O.
var pure = []string{"packet", "topic", "internal/ids", "internal/qos", "internal/route", "internal/session"}

// overBudget lists the files and functions that are longer than the budget and
// better so, each with its reason: "broker/publish.go" or
// "broker/publish.go:publish".
var overBudget = map[string]string{}

const (
	fileBudget     = 800
	functionBudget = 100
)

func TestEveryPackageHasOnePackageComment(t *testing.T) {
	for folder, files := range packages(t) {
		var documented []string
		for _, f := range files.orTests() {
			if f.syntax.Doc == nil {
				continue
			}
			documented = append(documented, f.name)
			want := "Package " + f.syntax.Name.Name + " "
			if f.syntax.Name.Name == "main" {
				want = "Command " + path.Base(folder) + " "
			}
			if !strings.HasPrefix(f.syntax.Doc.Text(), want) {
				t.Errorf("%s: the package comment does not start with %q", f.name, want)
			}
		}
		if len(documented) != 1 {
			t.Errorf("%s has %d package comments, want one: %v", folder, len(documented), documented)
		}
	}
}

func TestImportLayers(t *testing.T) {
	for folder, files := range packages(t) {
		may, known := layer(folder)
		if !known {
			t.Errorf("%s is in no layer: say in arch_test.go and ARCHITECTURE.md what it may import", folder)
			continue
		}
		for _, f := range files.code {
			for _, imported := range f.imports(t) {
				if !allowed(imported, may) {
					t.Errorf("%s imports %s, which its layer may not", f.name, imported)
				}
			}
		}
	}
}

func layer(folder string) (may []string, known bool) {
	for _, l := range layers {
		if folder == l.folder || strings.HasPrefix(folder, l.folder+"/") {
			may, known = l.may, true
		}
	}
	return may, known
}

func allowed(imported string, may []string) bool {
	if own, ours := strings.CutPrefix(imported, module+"/"); ours {
		return slices.ContainsFunc(may, func(m string) bool {
			// Only folders whose packages stand apart name themselves, and mean
			// all below them.
			return own == m || (m == "test" || m == "internal/bench") && strings.HasPrefix(own, m+"/")
		})
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return true // the standard library
	}
	return slices.Contains(may, imported)
}

// TestPurePackages: no I/O is imported, no goroutine started, no clock read.
func TestPurePackages(t *testing.T) {
	io := []string{"net", "os", "io/fs", "syscall", "log", "log/slog", "runtime", "context"}
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick"}
	all := packages(t)
	for _, folder := range pure {
		for _, f := range all[folder].code {
			for _, imported := range f.imports(t) {
				if slices.ContainsFunc(io, func(p string) bool { return imported == p || strings.HasPrefix(imported, p+"/") }) {
					t.Errorf("%s imports %s: the package is pure", f.name, imported)
				}
			}
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s starts a goroutine: the package is pure", f.at(n.Pos()))
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name) {
						t.Errorf("%s uses time.%s: the package takes the time from its caller", f.at(n.Pos()), n.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

// globalState lists the files that may hold a variable of the package that
// changes, each with its reason.
var globalState = map[string]string{
	"internal/transport/sys_linux_race.go": "descriptors belong to the process, and so does the check of who owns each; built for tests only",
	"internal/store/storetest/run.go":      "tokens that no two calls of one process share; imported by tests only",
}

// TestNoGlobalState: no function changes a variable of its package, none holds
// what is made to change, and nothing happens before main. Tests are free.
func TestNoGlobalState(t *testing.T) {
	for folder, files := range packages(t) {
		if folder == "cmd/myelin" {
			continue // the linker sets its version
		}
		globals := map[string]bool{}
		for _, f := range files.code {
			for _, d := range f.syntax.Decls {
				if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR && globalState[f.name] == "" {
					declared(t, f, g, globals)
				}
			}
		}
		for _, f := range files.code {
			for _, d := range f.syntax.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Body == nil {
					continue
				}
				if fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s: an init function", f.at(fn.Pos()))
				}
				for _, x := range assigned(fn) {
					if globals[x.Name] {
						t.Errorf("%s changes %s, a variable of the package", f.at(x.Pos()), x.Name)
					}
				}
			}
		}
	}
}

// declared notes the names of a declaration of variables.
func declared(t *testing.T, f file, g *ast.GenDecl, names map[string]bool) {
	t.Helper()
	for _, spec := range g.Specs {
		v := spec.(*ast.ValueSpec)
		for _, n := range v.Names {
			names[n.Name] = n.Name != "_"
		}
		for _, x := range append([]ast.Expr{v.Type}, v.Values...) {
			if x == nil {
				continue
			}
			ast.Inspect(x, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if p, ok := s.X.(*ast.Ident); ok && (p.Name == "sync" || p.Name == "atomic") {
						t.Errorf("%s: a %s.%s of the package", f.at(s.Pos()), p.Name, s.Sel.Name)
					}
				}
				_, isFunc := n.(*ast.FuncLit)
				return !isFunc
			})
		}
	}
}

// assigned are the variables that a function changes, itself or a part of
// them, and does not declare.
func assigned(fn *ast.FuncDecl) []*ast.Ident {
	local := map[string]bool{}
	var changed []*ast.Ident
	change := func(x ast.Expr, define bool) {
		for {
			switch y := x.(type) {
			case *ast.Ident:
				if define {
					local[y.Name] = true
				} else {
					changed = append(changed, y)
				}
				return
			case *ast.IndexExpr:
				x = y.X
			case *ast.SelectorExpr:
				x = y.X
			case *ast.StarExpr:
				x = y.X
			case *ast.ParenExpr:
				x = y.X
			default:
				return
			}
		}
	}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			for _, x := range n.Names {
				local[x.Name] = true
			}
		case *ast.ValueSpec:
			for _, x := range n.Names {
				local[x.Name] = true
			}
		case *ast.AssignStmt:
			for _, x := range n.Lhs {
				change(x, n.Tok == token.DEFINE)
			}
		case *ast.RangeStmt:
			for _, x := range []ast.Expr{n.Key, n.Value} {
				if x != nil {
					change(x, n.Tok == token.DEFINE)
				}
			}
		case *ast.IncDecStmt:
			change(n.X, false)
		}
		return true
	})
	return slices.DeleteFunc(changed, func(x *ast.Ident) bool { return local[x.Name] })
}

func TestSizeBudget(t *testing.T) {
	used := map[string]bool{}
	over := func(what string, lines, budget int) {
		if overBudget[what] != "" {
			used[what] = true
			return
		}
		t.Errorf("%s has %d lines, the budget is %d: cut it where it has a joint, or say in overBudget why not", what, lines, budget)
	}
	for _, files := range packages(t) {
		for _, f := range files.code {
			if n := f.set.File(f.syntax.Pos()).LineCount(); n > fileBudget {
				over(f.name, n, fileBudget)
			}
			for _, d := range f.syntax.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok {
					continue
				}
				if n := f.line(fn.End()) - f.line(fn.Pos()) + 1; n > functionBudget {
					over(f.name+":"+fn.Name.Name, n, functionBudget)
				}
			}
		}
	}
	for what := range overBudget {
		if !used[what] {
			t.Errorf("%s is in overBudget and within the budget: take it out", what)
		}
	}
}

var citation = regexp.MustCompile(`\[(MQTT3?)-(\d[\d.-]*-\d+)\]`)

// TestCitations: every statement that the code says it obeys exists. [MQTT-x]
// is a statement of MQTT 5.0, or of 3.1.1 where 5.0 has none of that number;
// [MQTT3-x] is one of 3.1.1. (3.1.1 prints one of its own as 3-8.3-4; 3.8.3-4 is
// taken for it, too.)
func TestCitations(t *testing.T) {
	list, err := os.ReadFile("testdata/statements.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(string(list)), "\n") {
		version, id, _ := strings.Cut(line, " ")
		known[id] = true
		if version == "3.1.1" {
			known["MQTT3"+strings.TrimPrefix(id, "MQTT")] = true
		}
	}
	cited := 0
	for _, files := range packages(t) {
		for _, f := range slices.Concat(files.code, files.tests) {
			for i, line := range strings.Split(string(f.text), "\n") {
				for _, m := range citation.FindAllString(line, -1) {
					cited++
					if !known[strings.Trim(m, "[]")] {
						t.Errorf("%s:%d cites %s, which no standard has", f.name, i+1, m)
					}
				}
			}
		}
	}
	t.Logf("%d citations", cited)
}

// TestExamplesUsePublicPackages: what an example shows, everybody can do.
func TestExamplesUsePublicPackages(t *testing.T) {
	for folder, files := range packages(t) {
		for _, f := range slices.Concat(files.code, files.tests) {
			if !strings.HasPrefix(folder, "examples") && !strings.HasPrefix(path.Base(f.name), "example") {
				continue
			}
			for _, imported := range f.imports(t) {
				own, ours := strings.CutPrefix(imported, module+"/")
				if ours && !slices.Contains(public, own) {
					t.Errorf("%s imports %s, which other modules cannot", f.name, imported)
				}
			}
		}
	}
}

// pkg is one folder's Go files, those of every system and build tag.
type pkg struct{ code, tests []file }

// orTests is the package's code, or its tests where it has nothing else.
func (p pkg) orTests() []file {
	if len(p.code) > 0 {
		return p.code
	}
	return p.tests
}

type file struct {
	name   string
	text   []byte
	set    *token.FileSet
	syntax *ast.File
}

func (f file) line(p token.Pos) int  { return f.set.Position(p).Line }
func (f file) at(p token.Pos) string { return fmt.Sprintf("%s:%d", f.name, f.line(p)) }

func (f file) imports(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, i := range f.syntax.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// packages parses this module's packages, by folder. Modules of their own, such
// as test/interop, follow their own rules.
func packages(t *testing.T) map[string]pkg {
	t.Helper()
	all := map[string]pkg{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(name, d)
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f := file{name: filepath.ToSlash(name), set: token.NewFileSet()}
		if f.text, err = os.ReadFile(name); err != nil {
			return err
		}
		if f.syntax, err = parser.ParseFile(f.set, name, f.text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return err
		}
		folder := path.Dir(f.name)
		p := all[folder]
		if strings.HasSuffix(name, "_test.go") {
			p.tests = append(p.tests, f)
		} else {
			p.code = append(p.code, f)
		}
		all[folder] = p
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 3 {
		t.Fatalf("found only %d packages", len(all))
	}
	return all
}

// enter skips folders that hold no package of this module.
func enter(name string, d fs.DirEntry) error {
	if name == "." {
		return nil
	}
	if d.Name() == "testdata" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}
