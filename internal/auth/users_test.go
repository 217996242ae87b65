package auth

import (
	"encoding/base64"
	"os"
	"strings"
	"testing"

	"github.com/myelin-mqtt/myelin/internal/scram"
)

// TestHashesOfOthers: what mosquitto_passwd and htpasswd write.
func TestHashesOfOthers(t *testing.T) {
	u, err := loadUsers("testdata/mosquitto.users", nil)
	if err != nil {
		t.Fatal(err)
	}
	f := func(user, password string, want bool) {
		t.Helper()
		h, known := u.find(user)
		if !known {
			t.Fatalf("no user %s", user)
		}
		if got := h.matches([]byte(password)); got != want {
			t.Errorf("%s with %q: %v", user, password, got)
		}
	}
	f("ada", "secret", true)
	f("ada", "secret1", false)
	f("ada", "", false)
	f("bob", "hunter2", true)
	f("bob", "hunter", false)
	f("eve", "pässwörd", true)
	f("eve", "passwort", false)
	f("with space", "x y", true)
	// htpasswd -B of Apache: password "x".
	h, err := parseHash("$2y$05$" + strings.Repeat("a", 53))
	if err != nil || h.matches([]byte("x")) {
		t.Errorf("%v", err)
	}
}

// TestSaltOfAnyLength: Mosquitto's $7$ with a salt of 1 to 100 bytes.
func TestSaltOfAnyLength(t *testing.T) {
	for _, n := range []int{1, 8, 12, 16, 64, 100} {
		salt := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("s", n)))
		h, err := parseHash("$7$1$" + salt + "$" + strings.Repeat("A", 86) + "==")
		if err != nil || len(h.salt) != n || h.matches([]byte("x")) {
			t.Errorf("%d: %v", n, err)
		}
	}
}

func TestNewHashes(t *testing.T) {
	text := newHash([]byte("secret"))
	v, err := scram.New([]byte("secret"), 4096)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{text, v.String()} {
		h, err := parseHash(text)
		if err != nil {
			t.Fatal(err)
		}
		if !h.matches([]byte("secret")) || h.matches([]byte("secreT")) {
			t.Error(text)
		}
	}
	if newHash([]byte("secret")) == text {
		t.Error("two hashes have one salt")
	}
}

func TestFaultsOfUsers(t *testing.T) {
	text, err := os.ReadFile("testdata/faults.users")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/faults.want")
	if err != nil {
		t.Fatal(err)
	}
	_, faults := parseUsers("users", text, nil)
	var got strings.Builder
	for _, f := range faults {
		got.WriteString(f.Error() + "\n")
		if f.Hint != "" {
			got.WriteString("    " + f.Hint + "\n")
		}
	}
	if got.String() != string(want) {
		t.Errorf("got:\n%s", got.String())
	}
	if _, faults := parseUsers("u", []byte(strings.Repeat("x\n", 1000)), nil); len(faults) != maxFaults {
		t.Errorf("%d faults", len(faults))
	}
}

// TestStandIn: who does not exist is held against the same hash each time, and
// not all against one.
func TestStandIn(t *testing.T) {
	u, err := loadUsers("testdata/mosquitto.users", []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[*hash]bool{}
	for _, name := range strings.Split("a b c d e f g h i j k l m n o p q r s t u v w x y z", " ") {
		h, known := u.find(name)
		again, _ := u.find(name)
		if known || h != again {
			t.Error(name)
		}
		seen[h] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d of 4 hashes stand for somebody", len(seen))
	}
}

// FuzzUsers: whatever a password file holds, reading it ends, what is read can be
// hashed against, and no fault shows a hash.
func FuzzUsers(f *testing.F) {
	for _, name := range []string{"testdata/mosquitto.users", "testdata/faults.users"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
		for _, line := range strings.Split(string(text), "\n") {
			f.Add(line)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, faults := parseUsers("u", []byte(text), []byte("k"))
		if len(u.byName) != len(u.all) {
			t.Error("a user is there twice")
		}
		for _, x := range faults {
			if x.What == "" || x.Line < 1 {
				t.Errorf("%+v", x)
			}
		}
		for _, h := range u.all {
			if h.memory*h.n > maxArgonWork || h.n > maxIterations || len(h.salt) > maxSaltBytes {
				t.Errorf("%+v costs too much", h)
			}
		}
	})
}
