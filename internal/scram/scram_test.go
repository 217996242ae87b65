package scram

import (
	"errors"
	"strings"
	"testing"
)

// exchange runs both sides; tamper may change a message.
func exchange(password string, v Verifier, known bool, tamper func(step int, m []byte) []byte) (server, client error) {
	var s Server
	c := Client{User: "a=d,a", Password: []byte(password)}
	m := tamper(0, c.First())
	if err := s.First(m); err != nil {
		return err, nil
	}
	m, err := c.Final(tamper(1, s.Challenge(v, known)))
	if err != nil {
		return nil, err
	}
	if m, err = s.Final(tamper(2, m)); err != nil {
		return err, nil
	}
	if s.User != "a=d,a" {
		return errors.New(s.User), nil
	}
	return nil, c.Finish(tamper(3, m))
}

func same(_ int, m []byte) []byte { return m }

func TestExchange(t *testing.T) {
	v, err := New([]byte("pencil"), 4096)
	if err != nil {
		t.Fatal(err)
	}
	if s, c := exchange("pencil", v, true, same); s != nil || c != nil {
		t.Error(s, c)
	}
	if s, _ := exchange("pen", v, true, same); !errors.Is(s, ErrProof) {
		t.Error(s)
	}
	if s, _ := exchange("pencil", v, false, same); !errors.Is(s, ErrProof) {
		t.Error(s)
	}
	w := v
	w.ServerKey = make([]byte, 32)
	if s, c := exchange("pencil", w, true, same); s != nil || !errors.Is(c, ErrProof) {
		t.Error(s, c)
	}
	for step := range 4 {
		if s, c := exchange("pencil", v, true, func(i int, m []byte) []byte {
			if i == step {
				m = append([]byte(nil), m...)
				m[len(m)-3] ^= 1
			}
			return m
		}); s == nil && c == nil {
			t.Errorf("a change of message %d is not noticed", step)
		}
	}
	u := MadeUp([]byte("k"), "eve", 4096, 16)
	if u.String() != MadeUp([]byte("k"), "eve", 4096, 16).String() || u.String() == MadeUp([]byte("k"), "eva", 4096, 16).String() {
		t.Error("what is made up for a name is not the name's alone")
	}
}

// TestRFC7677 is the example of the standard: the client's nonce is the only
// thing that is given.
func TestRFC7677(t *testing.T) {
	c := Client{User: "user", Password: []byte("pencil")}
	c.First()
	c.nonce, c.bare = "rOprNGfwEbeRWgbNEkqO", "n=user,r=rOprNGfwEbeRWgbNEkqO"
	m, err := c.Final([]byte("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"))
	if err != nil || string(m) != "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=" {
		t.Errorf("%s %v", m, err)
	}
	if err := c.Finish([]byte("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")); err != nil {
		t.Error(err)
	}
}

func TestParse(t *testing.T) {
	v, err := New([]byte("x"), 4096)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(v.String())
	if err != nil || got.String() != v.String() || !got.Matches([]byte("x")) || got.Matches([]byte("y")) {
		t.Error(got, err)
	}
	for _, bad := range []string{"", prefix, strings.Replace(v.String(), "i=4096", "i=1", 1), v.String() + "$", v.String()[:60], strings.Replace(v.String(), "s=", "t=", 1)} {
		if _, err := Parse(bad); err == nil {
			t.Error(bad)
		}
	}
}

// FuzzServer: whatever a client sends, the server answers or refuses, and lets
// nobody in.
func FuzzServer(f *testing.F) {
	v := MadeUp([]byte("k"), "u", 4096, 16)
	f.Add("n,,n=user,r=abc", "c=biws,r=abc,p=AAAA")
	f.Add("y,,n=a=2Cb,r=abc,x=y", "c=eSws,r=abc,p=")
	f.Add("p=tls-unique,,n=user,r=abc", "")
	f.Add("n,a=x,n=user,r=abc", "")
	f.Fuzz(func(t *testing.T, first, final string) {
		var s Server
		if s.First([]byte(first)) != nil {
			return
		}
		if s.User == "" || len(s.Challenge(v, true)) == 0 {
			t.Error("no user")
		}
		if _, err := s.Final([]byte(final)); err == nil {
			t.Error("in")
		}
		if _, err := s.Final([]byte(s.want + ",p=" + final)); err == nil {
			t.Error("in")
		}
	})
}
