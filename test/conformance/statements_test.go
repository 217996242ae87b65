//go:build conformance

package conformance

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// statement is one row of testdata/statements.tsv: a normative statement of a standard, or (edge, often, bad) a known difficulty.
type statement struct {
	list, id, words string
	cases           []string // none: reason says why
	reason          string
}

// normative is how many statements each section of the standards has; in 2.2.1 of 5.0 they begin at 2, everywhere else at 1.
var normative = map[string]string{
	"5.0": "1.5.4:3 1.5.5:1 1.5.7:1 2.1.3:1 2.2.1:5 2.2.2:1 3.1.0:2 3.1.2:30 3.1.3:12 3.1.4:6 3.2.0:2 3.2.2:22 3.3.1:13 3.3.2:20 3.3.4:10 " +
		"3.4.2:3 3.5.2:3 3.6.1:1 3.6.2:3 3.7.2:3 3.8.1:1 3.8.3:5 3.8.4:8 3.9.2:2 3.9.3:2 3.10.1:1 3.10.3:2 3.10.4:6 3.11.2:2 3.11.3:2 " +
		"3.12.4:1 3.14.0:1 3.14.1:1 3.14.2:4 3.14.4:3 3.15.1:1 3.15.2:3 4.1.0:2 4.2.0:1 4.3.1:1 4.3.2:5 4.3.3:13 4.4.0:2 4.5.0:2 4.6.0:6 " +
		"4.7.0:1 4.7.1:2 4.7.2:1 4.7.3:4 4.8.2:6 4.9.0:3 4.12.0:7 4.12.1:2 4.13.1:1 4.13.2:1 6.0.0:4",
	"3.1.1": "1.5.3:3 2.2.2:2 2.3.1:7 3.1.0:2 3.1.2:24 3.1.3:11 3.1.4:5 3.2.0:1 3.2.2:6 3.3.1:12 3.3.2:3 3.3.4:1 3.3.5:2 3.6.1:1 3.8.1:1 " +
		"3.8.3:3 3.8.4:6 3.9.3:2 3.10.1:1 3.10.3:2 3.10.4:6 3.12.4:1 3.14.1:1 3.14.4:3 4.1.0:2 4.3.1:1 4.3.2:2 4.3.3:2 4.4.0:1 4.5.0:2 " +
		"4.6.0:6 4.7.1:3 4.7.2:1 4.7.3:4 4.8.0:2 6.0.0:4 7.0.0:2 7.1.1:1 7.1.2:1",
}

// totals is how many rows each list has.
var totals = map[string]int{"5.0": 251, "3.1.1": 140, "edge": 30, "often": 16, "bad": 25}

func readStatements(t *testing.T) (list []statement) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "statements.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 4 || f[2] == "" || f[3] == "" {
			t.Fatalf("row %q: want four columns with something in them", line)
		}
		s := statement{list: f[0], id: f[1], words: f[2]}
		if reason, none := strings.CutPrefix(f[3], "- "); none {
			s.reason = reason
		} else {
			s.cases = strings.Fields(f[3])
		}
		list = append(list, s)
	}
	return list
}

// versionsOf are the versions in which a case must pass for a row of this list.
func versionsOf(list string, c testCase) (out []byte) {
	for _, v := range c.versions {
		if list != "5.0" && list != "3.1.1" || list == versionNames[v] {
			out = append(out, v)
		}
	}
	return out
}

func caseMap() map[string]testCase {
	m := map[string]testCase{}
	for _, c := range allCases() {
		m[c.name] = c
	}
	return m
}

// TestStatements: every statement has a row, and every row names cases that there are, for its version, or a reason.
func TestStatements(t *testing.T) {
	rows, cases := readStatements(t), caseMap()
	seen, count := map[string]bool{}, map[string]int{}
	for _, s := range rows {
		key := s.list + " " + s.id
		if seen[key] {
			t.Errorf("%s has two rows", key)
		}
		seen[key] = true
		count[s.list]++
		for _, name := range s.cases {
			c, ok := cases[name]
			if !ok || len(versionsOf(s.list, c)) == 0 {
				t.Errorf("%s: there is no case %q for it", key, name)
			}
		}
	}
	for list, sections := range normative {
		for _, s := range strings.Fields(sections) {
			section, n := s, 0
			fmt.Sscanf(strings.Replace(s, ":", " ", 1), "%s %d", &section, &n)
			first := 1
			if list == "5.0" && section == "2.2.1" {
				first = 2
			}
			for i := range n {
				if key := fmt.Sprintf("%s MQTT-%s-%d", list, section, first+i); !seen[key] {
					t.Errorf("%s has no row", key)
				}
			}
		}
	}
	if !maps.Equal(count, totals) {
		t.Errorf("the lists have %v rows, want %v", count, totals)
	}
}

// outcome is what came of a row: pass, fail, skip, or "not run".
func outcome(s statement, cases map[string]testCase, results map[string]string) string {
	if len(s.cases) == 0 {
		return "does not apply"
	}
	rank := []string{"pass", "skip", "not run", "fail"}
	worst := 0
	for _, name := range s.cases {
		for _, v := range versionsOf(s.list, cases[name]) {
			got, ran := results[name+"/"+versionNames[v]]
			if !ran {
				got = "not run"
			}
			worst = max(worst, slices.Index(rank, got))
		}
	}
	return rank[worst]
}

// judge counts what came of the rows, fails for those that were not run, and writes the table if it is asked for.
func judge(t *testing.T, results map[string]string) {
	rows, cases := readStatements(t), caseMap()
	count := map[string]map[string]int{}
	for _, s := range rows {
		got := outcome(s, cases, results)
		if count[s.list] == nil {
			count[s.list] = map[string]int{}
		}
		count[s.list][got]++
		if got == "not run" && flag.Lookup("test.run").Value.String() == "" {
			t.Errorf("%s %s: a case of it was not run", s.list, s.id)
		}
	}
	for list := range totals {
		t.Logf("%s: %v", list, count[list])
	}
	if *tableFile == "" {
		return
	}
	path := *tableFile
	if !filepath.IsAbs(path) {
		path = filepath.Join("..", "..", path)
	}
	if err := os.WriteFile(path, []byte(markdown(rows, cases, results, count)), 0o644); err != nil {
		t.Error(err)
	}
}

// markdown is the table for people.
func markdown(rows []statement, cases map[string]testCase, results map[string]string, count map[string]map[string]int) string {
	var b strings.Builder
	b.WriteString("# Conformance\n\nWhat the running program was held to, statement by statement. `make conformance` runs the cases, each with raw packets over\n" +
		"a socket; this file is written by `go test -tags conformance -count=1 ./test/conformance/ -table docs/conformance.md`. The words are\n" +
		"ours, the identifiers are those of the OASIS standards.\n\n")
	fmt.Fprintf(&b, "Besides the cases there are %d malformed packets, each with its expected answer, in test/conformance/testdata/malformed.tsv.\n\n", len(malformedRows()))
	b.WriteString("| list | rows | pass | fail | skipped | does not apply |\n| --- | --- | --- | --- | --- | --- |\n")
	titles := []struct{ list, title string }{{"5.0", "MQTT 5.0"}, {"3.1.1", "MQTT 3.1.1"}, {"edge", "Edge cases"},
		{"often", "What brokers often get wrong"}, {"bad", "Input that has broken brokers"}}
	for _, l := range titles {
		n := count[l.list]
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d |\n", l.title, totals[l.list], n["pass"], n["fail"]+n["not run"], n["skip"], n["does not apply"])
	}
	for _, l := range titles {
		fmt.Fprintf(&b, "\n## %s\n\n| id | says | cases | result |\n| --- | --- | --- | --- |\n", l.title)
		for _, s := range rows {
			if s.list != l.list {
				continue
			}
			what := strings.Join(s.cases, ", ")
			if what == "" {
				what = "none: " + s.reason
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", s.id, strings.ReplaceAll(s.words, "|", "\\|"), what, outcome(s, cases, results))
		}
	}
	return b.String()
}
