package auth

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/packet"
)

const users1 = "testdata/mosquitto.users"

func TestPasswordFile(t *testing.T) {
	g, log := open(t, Options{Methods: []string{PasswordFile}, PasswordFile: users1, Remember: time.Minute})
	f := func(user, password string, want packet.Reason) {
		t.Helper()
		if got := login(g, user, password); got != want {
			t.Errorf("%s, %q: %v, want %v", user, password, got, want)
		}
	}
	for range 2 { // the second time from what is remembered
		f("ada", "secret", packet.Success)
		f("ada", "Secret", packet.BadUserNameOrPassword)
		f("nobody", "secret", packet.BadUserNameOrPassword)
		f("ada", "", packet.BadUserNameOrPassword)
		f("", "secret", packet.BadUserNameOrPassword)
		f("", "", packet.NotAuthorized)
		f("ada", strings.Repeat("x", maxPassword+1), packet.BadUserNameOrPassword)
	}
	if text := log.String(); strings.Contains(text, "Secret") || strings.Contains(text, "$7$") {
		t.Error("a secret in the log")
	} else if !strings.Contains(text, `user=ada client=c address=192.0.2.1:5000 listener="" method=password_file code="Bad user name or password (0x86)" err="wrong password"`) {
		t.Error(text)
	}
	got := map[string]uint64{}
	for _, c := range g.Counts() {
		got[c.Method+" "+c.Result] = c.N
	}
	if got["password_file accepted"] != 2 || got["password_file refused"] != 4 || got["none refused"] != 8 {
		t.Error(got)
	}
}

// TestAnonymous: it lets nobody in who shows wrong credentials.
func TestAnonymous(t *testing.T) {
	g, _ := open(t, Options{Methods: []string{PasswordFile, Anonymous}, PasswordFile: users1, Listeners: map[string][]string{"tcp://closed": {}, "tcp://open": {Anonymous}}})
	for _, x := range []struct {
		listener, user, password string
		want                     packet.Reason
	}{
		{"", "", "", packet.Success},
		{"", "ada", "secret", packet.Success},
		{"", "ada", "wrong", packet.BadUserNameOrPassword},
		{"", "nobody", "", packet.BadUserNameOrPassword},
		{"tcp://open", "", "", packet.Success},
		{"tcp://open", "ada", "secret", packet.BadUserNameOrPassword},
		{"tcp://closed", "", "", packet.NotAuthorized},
		{"tcp://closed", "ada", "secret", packet.BadUserNameOrPassword},
	} {
		r := &broker.AuthRequest{Client: &broker.Client{Username: x.user, Listener: x.listener}, Password: []byte(x.password)}
		if a := ask(g, r); a.Code != x.want {
			t.Errorf("%+v: %v", x, a.Code)
		}
	}
	r := &broker.AuthRequest{Client: &broker.Client{}, Method: "KERBEROS"}
	if a := ask(g, r); a.Code != packet.BadAuthenticationMethod {
		t.Error(a)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, o := range []Options{
		{Methods: []string{"nonsense"}},
		{Methods: []string{PasswordFile}, PasswordFile: filepath.Join(t.TempDir(), "gone")},
		{Methods: []string{PasswordFile}, PasswordFile: "testdata/faults.users"},
	} {
		if g, err := Open(o); err == nil {
			g.Close()
			t.Errorf("%+v opens", o)
		}
	}
}

// TestReload: a new file counts, also for what was remembered; one with a fault
// changes nothing.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := write(t, "users", "")
		set := func(text string) { write(t, file, text) }
		set("ada:" + newHash([]byte("one")) + "\n")
		g, _ := open(t, Options{Methods: []string{PasswordFile}, PasswordFile: file, Remember: time.Hour})
		f := func(password string, want packet.Reason) {
			t.Helper()
			if got := login(g, "ada", password); got != want {
				t.Errorf("%s: %v", password, got)
			}
		}
		f("one", packet.Success)
		set("ada:" + newHash([]byte("two")) + "\n")
		f("one", packet.Success)
		if err := g.Reload(); err != nil {
			t.Fatal(err)
		}
		f("one", packet.BadUserNameOrPassword)
		f("two", packet.Success)
		set("ada:plain\n")
		var faults Faults
		if err := g.Reload(); !errors.As(err, &faults) {
			t.Error(err)
		}
		f("two", packet.Success)
		// It is seen without a signal, when it has come to rest.
		set("ada:" + newHash([]byte("three")) + "\n#\n")
		for range 2 {
			if err := g.users.look(); err != nil {
				t.Error(err)
			}
		}
		f("three", packet.Success)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			_ = g.users.look()
		}
		f("three", packet.Success)
		g.Close()
	})
}

// TestBusy: what waits for the hashers is bounded, and nobody waits for nothing.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := open(t, Options{Methods: []string{PasswordFile}, PasswordFile: users1, Workers: 1, Queue: 2})
		held := make(chan struct{})
		g.pool.try(func() { <-held })
		synctest.Wait()
		var mu sync.Mutex
		codes := map[packet.Reason]int{}
		for range 5 {
			r := &broker.AuthRequest{Client: &broker.Client{Username: "ada"}, Password: []byte("secret")}
			g.Auth(r, func(a broker.AuthAnswer) {
				mu.Lock()
				codes[a.Code]++
				mu.Unlock()
			})
		}
		close(held)
		g.Close()
		if codes[packet.Success] != 2 || codes[packet.ServerBusy] != 3 {
			t.Error(codes)
		}
	})
}

// TestSlowDown: each refusal of a user takes twice as long as the one before, up
// to the most; a right password takes no time; what is forgotten, is.
func TestSlowDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := open(t, Options{Methods: []string{PasswordFile}, PasswordFile: users1, SlowDown: time.Second, SlowDownMax: 5 * time.Second})
		f := func(addr, user, password string, want time.Duration) {
			t.Helper()
			start := time.Now()
			ask(g, &broker.AuthRequest{Client: &broker.Client{Username: user, Address: addr + ":1"}, Password: []byte(password)})
			if got := time.Since(start); got != want {
				t.Errorf("%s from %s: refused after %s, want %s", user, addr, got, want)
			}
		}
		for _, d := range []time.Duration{1, 2, 4, 5, 5} {
			f("192.0.2.1", "ada", "x", d*time.Second)
		}
		f("192.0.2.2", "ada", "x", 5*time.Second) // the user, wherever from
		f("192.0.2.1", "ada", "secret", 0)
		f("192.0.2.1", "bob", "x", 2*time.Second) // the address, its second beyond the free ones
		f("192.0.2.1", "", "", 0)
		time.Sleep(time.Hour)
		f("192.0.2.1", "ada", "x", time.Second)
	})
}

// TestManyAtOnce: an address with many refusals under way is not asked for more
// passwords, and others are.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := open(t, Options{Methods: []string{PasswordFile}, PasswordFile: users1, SlowDown: time.Second, SlowDownMax: time.Minute})
		auth := func(addr, password string) <-chan packet.Reason {
			c := make(chan packet.Reason, 1)
			g.Auth(&broker.AuthRequest{Client: &broker.Client{Username: "ada", Address: addr}, Password: []byte(password)}, func(a broker.AuthAnswer) { c <- a.Code })
			synctest.Wait()
			return c
		}
		for i := range maxFromAddr {
			auth(fmt.Sprintf("[2001:db8::%x]:1", i+1), "x") // one household
		}
		if got := <-auth("[2001:db8::ffff]:1", "secret"); got != packet.ConnectionRateExceeded {
			t.Error(got)
		}
		if got := <-auth("[2001:db8:0:1::1]:1", "secret"); got != packet.Success {
			t.Error(got)
		}
		g.Close() // answers all that wait
		if n := len(g.slow.waiting) + len(g.slow.from); n != 0 {
			t.Errorf("%d wait", n)
		}
	})
}

func TestTablesAreBounded(t *testing.T) {
	tab, now := newTable(), time.Unix(0, 0)
	tab.wrong("first", now)
	tab.wrong("second", now)
	for i := range maxTracked - 1 {
		tab.wrong(fmt.Sprint(i), now)
	}
	if n := len(tab.byName); n != maxTracked || tab.order.Len() != n {
		t.Errorf("%d", n)
	}
	if got := tab.wrong("second", now); got != 2 {
		t.Errorf("second was forgotten: %d", got)
	}
	if got := tab.wrong("first", now); got != 1 {
		t.Errorf("first was not forgotten: %d", got)
	}
	v := newVerified(time.Hour)
	for i := range 3 * maxVerified {
		v.add(v.digest(fmt.Sprint(i), "", nil))
	}
	if n := len(v.young) + len(v.old); n > 2*maxVerified {
		t.Errorf("%d are remembered", n)
	}
}

func TestVerifiedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerified(10 * time.Minute)
		d := v.digest("ada", "h", []byte("p"))
		v.add(d)
		if !v.has(d) || v.has(v.digest("adah", "", []byte("p"))) || v.has(v.digest("ada", "h", []byte("q"))) {
			t.Error("wrong")
		}
		time.Sleep(4 * time.Minute)
		if !v.has(d) {
			t.Error("forgotten too early")
		}
		time.Sleep(10 * time.Minute)
		if v.has(d) {
			t.Error("not forgotten")
		}
	})
}

func TestEdit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	read := func() string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	edit := func(want error, changes ...Change) bool {
		t.Helper()
		created, err := Edit(file, changes)
		if (err == nil) != (want == nil) || want != nil && !strings.Contains(err.Error(), want.Error()) {
			t.Errorf("%v, want %v", err, want)
		}
		return created
	}
	if !edit(nil, Change{User: "ada", Password: []byte("1")}) {
		t.Error("not made")
	}
	fi, err := os.Stat(file)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Error(fi.Mode(), err)
	}
	write(t, file, "# mine\n"+read()+"bob:$7$1$AAAA$"+strings.Repeat("A", 86)+"==") // no line break
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	edit(nil, Change{User: "eve", Password: []byte("3"), SCRAM: true}, Change{User: "bob", Delete: true}, Change{User: "ada", Password: []byte("2")})
	u, err := loadUsers(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(u.all) != 2 || !u.byName["ada"].matches([]byte("2")) || !u.byName["eve"].matches([]byte("3")) || !strings.HasPrefix(read(), "# mine\nada:$argon2id$") {
		t.Error(read())
	}
	if fi, err = os.Stat(file); err != nil || fi.Mode().Perm() != 0o640 {
		t.Error(fi.Mode(), err)
	}
	before := read()
	edit(ErrNoUser, Change{User: "x", Password: []byte("1")}, Change{User: "bob", Delete: true})
	edit(errors.New("empty"), Change{User: "x"})
	edit(errors.New("colon"), Change{User: "a:b", Password: []byte("1")})
	if read() != before {
		t.Error("a change that failed changed the file")
	}
	link := filepath.Join(filepath.Dir(file), "link")
	if err := os.Symlink(file, link); err != nil {
		t.Skip(err)
	}
	if _, err := Edit(link, []Change{{User: "eve", Delete: true}}); err != nil {
		t.Error(err)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode().IsRegular() || strings.Contains(read(), "eve") {
		t.Error("the link is none any more")
	}
	if all, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); len(all) > 0 {
		t.Error(all)
	}
}

// TestEditsAtOnce: nobody's change is lost.
func TestEditsAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := Edit(file, []Change{{User: fmt.Sprint("u", i), Password: []byte("x")}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if u, err := loadUsers(file, nil); err != nil || len(u.all) != 8 {
		t.Error(u, err)
	}
}
