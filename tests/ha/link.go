package main

import (
	"context"
	"io"
	"net"
	"sync"
)

// link is the network between a node and PostgreSQL. Cut, it swallows what is
// sent, and answers nothing: nobody hears that the other is gone.
type link struct {
	net.Listener
	to string

	mu   sync.Mutex
	mend chan struct{} // closed while the link is whole
	open map[net.Conn]bool
}

// newLink listens on a free port of the loopback, and passes each connection on to an
// address.
func newLink(to string) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	whole := make(chan struct{})
	close(whole)
	n := &link{Listener: l, to: to, mend: whole, open: make(map[net.Conn]bool)}
	go n.accept()
	return n, nil
}

// accept takes connections while the link is cut, too: to a node, a network that is down
// does not look like a port that is closed.
func (n *link) accept() {
	for {
		client, err := n.Accept()
		if err != nil {
			return
		}
		go n.pass(client)
	}
}

// pass connects a client with the address behind the link, and ends when either side
// does.
func (n *link) pass(client net.Conn) {
	<-n.whole()
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", n.to)
	if err != nil {
		_ = client.Close()
		return
	}
	n.note(client, true)
	defer n.note(client, false)
	var both sync.WaitGroup
	both.Go(func() { n.carry(client, server) })
	n.carry(server, client)
	both.Wait()
}

// carry passes bytes on in one direction, while the link is whole.
func (n *link) carry(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 64<<10)
	for {
		// What is read while the link is cut waits below until it is mended.
		read, err := from.Read(buf)
		<-n.whole()
		if read > 0 {
			if _, err := to.Write(buf[:read]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// note keeps the list of open connections, which those who mend the link end.
func (n *link) note(c net.Conn, open bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if open {
		n.open[c] = true
	} else {
		delete(n.open, c)
	}
}

// whole returns a channel that is closed while the link is whole. Each cut makes a new
// one, so it is asked for before each use.
func (n *link) whole() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mend
}

// cut cuts it. The function returned mends it: connections of before are lost, as
// after any outage that is longer than a firewall remembers.
func (n *link) cut() (mend func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	whole := make(chan struct{})
	n.mend = whole
	return func() {
		n.mu.Lock()
		for c := range n.open {
			_ = c.Close()
		}
		n.mu.Unlock()
		close(whole)
	}
}

var _ io.Closer = (*link)(nil)
