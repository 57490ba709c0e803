package limit

import (
	"container/ring"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// Connections keeps the number of open connections within its limits, in all
// and for each client network. When one more comes, another makes room:
//
//   - the one that has waited longest for its next request, else
//   - the one whose request has been under way longest without a known caller.
//
// So clients who hold connections and send nothing, or send their bodies slowly,
// lock nobody out. If every connection serves a known caller, the new one goes.
type Connections struct {
	limit      int // 0: none
	perNetwork int // 0: none
	exempt     []netip.Prefix

	mu sync.Mutex
	// All open connections, and those of each client network; the queues hold the same.
	open     map[*Connection]struct{}
	all      *queues
	networks map[netip.Prefix]*clients
}

// clients are the connections of one network.
type clients struct {
	*queues
	open int
}

// NewConnections allows so many in all and for each client network (0: any
// number). Those from the exempt networks count for no network.
func NewConnections(limit, perNetwork int, exempt []netip.Prefix) *Connections {
	return &Connections{
		limit: limit, perNetwork: perNetwork, exempt: exempt,
		open: make(map[*Connection]struct{}), all: newQueues(),
		networks: make(map[netip.Prefix]*clients),
	}
}

// queues hold places of connections, each in the order in which they came.
type queues struct {
	waiting *ring.Ring // for their next request
	busy    *ring.Ring // with a request, whoever its caller is
	known   *ring.Ring // with a request whose caller was seen to be known
}

// newQueues returns three rings, each with one element that is no connection and marks where the
// ring begins.
func newQueues() *queues { return &queues{ring.New(1), ring.New(1), ring.New(1)} }

// place is a connection's in a queue. It is made once, and only linked and
// unlinked with each request.
type place struct {
	in *queues
	at *ring.Ring
}

// newPlace puts a connection at the end of the queue of those that wait.
func newPlace(p *Connection, in *queues) place {
	at := ring.New(1)
	at.Value = p
	in.waiting.Prev().Link(at) // what has just come waits for its first request
	return place{in, at}
}

// moveTo puts the connection at the end of another queue.
func (p place) moveTo(queue *ring.Ring) {
	p.leave()
	queue.Prev().Link(p.at)
}

// leave takes the connection out of its queue.
func (p place) leave() { p.at.Prev().Unlink(1) }

// first is who makes room for another; nil when everybody is a known caller.
// A place with a request of a known caller is passed over once.
func (q *queues) first() *Connection {
	if at := q.waiting.Next(); at != q.waiting {
		return at.Value.(*Connection)
	}
	for at := q.busy.Next(); at != q.busy; at = q.busy.Next() {
		p := at.Value.(*Connection)
		if !p.known.Load() {
			return p
		}
		place{q, at}.moveTo(q.known)
	}
	return nil
}

// admitting is a listener whose connections are admitted one by one.
type admitting struct {
	net.Listener
	*Connections
}

// Listener admits the connections of another.
func (c *Connections) Listener(ln net.Listener) net.Listener { return admitting{ln, c} }

// Accept waits for the next connection that is admitted.
func (l admitting) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p := &Connection{Conn: conn}
		leaving := l.admit(p)
		if leaving != nil {
			_ = leaving.Close() // it may have gone by itself
		}
		if leaving != p {
			return p, nil
		}
	}
}

// admit gives a new connection its places, and returns who must go for it: nil
// when there is room, and the new one itself when nobody makes room.
func (c *Connections) admit(p *Connection) (leaving *Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.network = c.networkOf(p.Conn)
	own := c.networks[p.network]
	switch {
	case own != nil && c.perNetwork > 0 && own.open >= c.perNetwork:
		leaving = own.first()
	case c.limit > 0 && len(c.open) >= c.limit:
		leaving = c.all.first()
	default:
		c.add(p)
		return nil
	}
	if leaving == nil {
		return p
	}
	c.remove(leaving)
	c.add(p)
	return leaving
}

// add registers a connection with the whole and with its network, if those of the network are
// counted.
func (c *Connections) add(p *Connection) {
	c.open[p] = struct{}{}
	p.places = append(p.places, newPlace(p, c.all))
	if !p.network.IsValid() {
		return
	}
	own := c.networks[p.network]
	if own == nil {
		own = &clients{queues: newQueues()}
		c.networks[p.network] = own
	}
	own.open++
	p.places = append(p.places, newPlace(p, own.queues))
}

// remove takes a connection out, and its network with the last one.
func (c *Connections) remove(p *Connection) {
	delete(c.open, p)
	for _, place := range p.places {
		place.leave()
	}
	if own := c.networks[p.network]; own != nil {
		if own.open--; own.open == 0 {
			delete(c.networks, p.network)
		}
	}
}

// networkOf is what counts together; not valid for this machine and for a
// named proxy, which stand for many.
func (c *Connections) networkOf(conn net.Conn) netip.Prefix {
	peer, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	addr := PlainAddr(peer.Addr())
	if err != nil || addr.IsLoopback() || Contains(c.exempt, addr) {
		return netip.Prefix{}
	}
	return ClientNetwork(addr)
}

// TrackState is for http.Server.ConnState.
func (c *Connections) TrackState(conn net.Conn, state http.ConnState) {
	p := accepted(conn)
	if p == nil || state == http.StateNew {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, open := c.open[p]; !open {
		return // one that had to go
	}
	switch state {
	case http.StateActive:
		p.known.Store(false)
		p.reading.Store(false)
		for _, place := range p.places {
			place.moveTo(place.in.busy)
		}
	case http.StateIdle:
		for _, place := range p.places {
			place.moveTo(place.in.waiting)
		}
	case http.StateClosed, http.StateHijacked:
		c.remove(p)
	}
}
