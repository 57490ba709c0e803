//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/pikarc/server/bench/load"
	"github.com/pikarc/server/bench/report"
)

const (
	// slowClients is how many send and read as slowly as they can.
	slowClients = 200
	// normalConns is how many others are measured meanwhile.
	normalConns = 16
)

// runSlow measures decisions alone and beside clients that send a byte now and
// then, in turn. The promise is that the normal p99 at most doubles.
func runSlow(ctx context.Context, w *workDir, o options) error {
	f := newSuite(w, o)
	if err := f.prepareOurs(ctx); err != nil {
		return err
	}
	var samples []sample
	for round := range o.rounds {
		say("round %d of %d", round+1, o.rounds)
		for name, make := range map[string]scripts{"alone": hot, "beside": besideSlow} {
			dir := filepath.Join(f.tmp, "data")
			s, err := decisions(make)(ctx, f, dir, normalConns)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			s.Name, s.Round = name, round
			samples = append(samples, s)
		}
	}
	// Compared within a round: machines differ from minute to minute.
	ratio := func(s sample) float64 { return s.P99 / find(samples, "alone", s.Round).P99 }
	var beside []sample
	t := report.Table{Columns: []string{"round", "p99 ms alone", "beside slow clients", "ratio",
		"/s alone", "/s beside"}}
	for _, s := range samples {
		if s.Name == "beside" {
			alone := find(samples, "alone", s.Round)
			beside = append(beside, s)
			t.Add(fmt.Sprint(s.Round+1), report.Number(alone.P99), report.Number(s.P99),
				report.Number(ratio(s)),
				report.Number(alone.PerSecond), report.Number(s.PerSecond))
		}
	}
	if err := t.Write(os.Stdout); err != nil {
		return err
	}
	return report.Goals(os.Stdout, []report.Goal{{
		Name: fmt.Sprintf("p99 beside %d slow clients", slowClients), Unit: " ×alone",
		Value: report.Median(beside, ratio), Goal: 2, Floor: 2,
	}})
}

// besideSlow is hot, with slow clients on the same server until it ends.
func besideSlow(
	ctx context.Context, f *suite, host string, conns int,
) ([]load.Script, int64, error) {
	list, started, err := hot(ctx, f, host, conns)
	if err != nil {
		return nil, 0, err
	}
	var slow []net.Conn
	for i := range slowClients {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			return nil, 0, err
		}
		slow = append(slow, conn)
		head := "POST /v1/runs/ HTTP/1.1\r\nHost: pikarc\r\nContent-Length: 100000\r\nAuthorization: Bearer " + f.accounts[0].Key + "\r\n"
		if i%2 == 0 { // half of them are slow with the body, half with the header
			head += "\r\n{\"user_id\": \""
		}
		if _, err := conn.Write([]byte(head)); err != nil {
			return nil, 0, err
		}
	}
	// A second longer than the load, so that all of it is measured beside them.
	go dribble(slow, time.Now().Add(warm+f.window+time.Second))
	return list, started, nil
}

// dribble sends a byte of each in turn, and hangs up when the load is over: a
// server that stops waits for requests that are under way.
func dribble(slow []net.Conn, until time.Time) {
	tick := time.NewTicker(time.Second / slowClients)
	defer tick.Stop()
	for i := 0; time.Now().Before(until); i++ {
		<-tick.C
		_, _ = slow[i%len(slow)].Write([]byte("x")) // the server may have closed it as too slow
	}
	for _, conn := range slow {
		_ = conn.Close()
	}
}
