package notify

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestOnlyPublicAddressesAreDialled(t *testing.T) {
	for _, text := range []string{
		"127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "0.1.2.3", "100.64.0.1",
		"224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1", "198.18.0.1", "192.0.2.1",
		"::1", "::", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "fe80::1", "fc00::1", "fd00:ec2::254",
		"ff02::1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:a00:1::", "2001:db8::1", "fec0::1",
	} {
		if err := checkAddress(netip.MustParseAddr(text), false); !errors.Is(err, errForbiddenAddress) {
			t.Errorf("%s may be dialled: %v", text, err)
		}
	}
	for _, text := range []string{"1.1.1.1", "93.184.215.14", "::ffff:1.1.1.1", "2606:4700::1111", "172.32.0.1", "100.128.0.1"} {
		if err := checkAddress(netip.MustParseAddr(text), false); err != nil {
			t.Error(err)
		}
	}
	for text, refused := range map[string]bool{"127.0.0.1": false, "10.0.0.1": false, "::1": false, "0.0.0.0": true, "::": true, "ff02::1": true, "224.0.0.1": true} {
		if err := checkAddress(netip.MustParseAddr(text), true); (err != nil) != refused {
			t.Errorf("with --webhook-private, %s: %v", text, err)
		}
	}
}

// nameServer answers every question for an address of IPv4 with the same one.
func nameServer(t *testing.T, answer netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		question := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(question)
			if err != nil {
				return
			}
			end := 12
			for question[end] != 0 {
				end += int(question[end]) + 1
			}
			end += 5
			reply := append([]byte{question[0], question[1], 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0}, question[12:end]...)
			if asked := question[end-3]; asked == 1 && n >= end { // A
				reply[7] = 1
				reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				reply = append(reply, answer.AsSlice()...)
			}
			if _, err := conn.WriteTo(reply, from); err != nil {
				return
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// A name is looked up by the dialer itself, and what it leads to is checked then.
func TestANameThatLeadsInsideReachesNothing(t *testing.T) {
	var reached atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer inside.Close()
	t.Setenv("HTTP_PROXY", inside.URL)
	t.Setenv("HTTPS_PROXY", inside.URL)
	t.Setenv("http_proxy", inside.URL)
	_, port, err := net.SplitHostPort(inside.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	post := func(url string, private bool) attempt {
		t.Helper()
		s := &Sender{client: newClient(private, 5*time.Second)}
		transport := s.client.Transport.(*http.Transport)
		dialer := &net.Dialer{Control: checkDialed(private), Resolver: nameServer(t, netip.MustParseAddr("127.0.0.1"))}
		transport.DialContext = dialer.DialContext
		return s.post(t.Context(), request{url: url, header: http.Header{}, body: []byte("{}")})
	}
	for _, host := range []string{"rebound.example.com", "localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"} {
		a := post("http://"+host+":"+port, false)
		if !strings.Contains(a.problem, errForbiddenAddress.Error()) {
			t.Errorf("%s: %+v", host, a)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d requests have reached what is inside", n)
	}
	if a := post("http://rebound.example.com:"+port, true); a.problem != "" || reached.Load() != 1 {
		t.Errorf("with --webhook-private: %+v", a)
	}
}
