package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// All servers are on the loopback and end with the trial, so fixed passwords do. The
	// server secret is given, because both nodes must have the same one.
	databasePassword = "the-database-of-make-ha"
	accountPassword  = "correct horse battery staple"
	serverSecret     = "a secret that both nodes of make ha have"
)

// cluster is three PostgreSQL servers under Patroni, two nodes of ours, and
// HAProxy before both, all on the loopback.
type cluster struct {
	*launcher
	docs   string // where the files are that it runs
	pikarc string
	bin    string // PostgreSQL's programs

	servers []*server
	nodes   []*node
	url     string // HAProxy's, for agents
	primary int    // HAProxy's port for nodes
	stats   string // HAProxy's socket
	etcd    int
}

// server is one PostgreSQL with its Patroni.
type server struct {
	name       string
	port, rest int
	config     string
	data       string
	patroni    *process
}

// node is one of ours, with the link over which it reaches PostgreSQL.
type node struct {
	name string
	port int
	link *link
	run  *process
}

// newCluster names the parts and finds a free port for each; start runs them. Nothing
// holds the ports until then, so another program could take one: that start fails, and
// its log says so.
func newCluster(dir, docs, pikarc string) (*cluster, error) {
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		return nil, errors.New("there is no PostgreSQL in /usr/lib/postgresql")
	}
	c := &cluster{launcher: &launcher{dir: dir}, docs: docs, pikarc: pikarc, bin: bins[len(bins)-1]}
	for i := range 3 {
		c.servers = append(c.servers, &server{name: fmt.Sprint("pg", i+1)})
	}
	for i := range 2 {
		c.nodes = append(c.nodes, &node{name: fmt.Sprint("node", i+1)})
	}
	ports := []*int{&c.primary, &c.etcd}
	for _, s := range c.servers {
		ports = append(ports, &s.port, &s.rest)
	}
	for _, n := range c.nodes {
		ports = append(ports, &n.port)
	}
	for _, p := range ports {
		var err error
		if *p, err = freePort(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// substituted is a file of docs/ops with texts replaced, all of which it must have.
func (c *cluster) substituted(name string, pairs ...string) (string, error) {
	text, err := os.ReadFile(filepath.Join(c.docs, name))
	if err != nil {
		return "", err
	}
	for i := 0; i < len(pairs); i += 2 {
		// A text that the file no longer has would leave an address of the example in it. Whoever
		// changes the file changes the trial too.
		if !bytes.Contains(text, []byte(pairs[i])) {
			return "", fmt.Errorf("%s has no %q", name, pairs[i])
		}
	}
	return strings.NewReplacer(pairs...).Replace(string(text)), nil
}

// start starts everything, in the order in which the parts need each other. An error
// leaves what runs already; end ends it.
func (c *cluster) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{c.startEtcd, c.startPostgres, c.startHAProxy, c.startNodes} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startEtcd starts one etcd. It is where Patroni keeps who is primary, and it is never
// killed here: its own loss is not what is tried.
func (c *cluster) startEtcd(context.Context) error {
	peer, err := freePort()
	if err != nil {
		return err
	}
	client, peers := fmt.Sprint("http://127.0.0.1:", c.etcd), fmt.Sprint("http://127.0.0.1:", peer)
	_, err = c.launcher.start("etcd", nil, nil, "etcd", "--data-dir", filepath.Join(c.dir, "etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peers,
		"--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers)
	return err
}

// startPostgres starts the three servers, and makes the role and the database that the
// nodes use. Patroni's times are shorter than those in docs/ops, so that a round is
// short.
func (c *cluster) startPostgres(ctx context.Context) error {
	owner, err := somebody()
	if err != nil {
		return err
	}
	for _, s := range c.servers {
		home := filepath.Join(c.dir, s.name)
		s.data, s.config = filepath.Join(home, "data"), filepath.Join(home, "patroni.yml")
		text, err := c.substituted("patroni.yml",
			"name: pg1", "name: "+s.name,
			"10.0.0.31:2379", fmt.Sprint("127.0.0.1:", c.etcd),
			"10.0.0.21:8008", fmt.Sprint("127.0.0.1:", s.rest),
			"10.0.0.21:5432", fmt.Sprint("127.0.0.1:", s.port),
			"10.0.0.0/24", "127.0.0.1/32",
			"/var/lib/postgresql/pikarc", s.data,
			"/var/lib/postgresql/.pgpass-patroni", filepath.Join(home, "pgpass"),
			"/usr/lib/postgresql/15/bin", c.bin,
			"ttl: 20", "ttl: 10", "loop_wait: 5", "loop_wait: 2", "retry_timeout: 5", "retry_timeout: 4")
		if err != nil {
			return err
		}
		// Its socket is beside its data: /var/run/postgresql may not be there.
		text = strings.Replace(text, "\n  authentication:", "\n  parameters:\n    unix_socket_directories: "+home+"\n  authentication:", 1)
		if err := errors.Join(os.Mkdir(home, 0o700), os.WriteFile(s.config, []byte(text), 0o644)); err != nil {
			return err
		}
		// Patroni runs as this user too, so it must be able to read its configuration and to make
		// the data directory.
		if owner != nil {
			if err := errors.Join(os.Chown(home, int(owner.Uid), int(owner.Gid)), os.Chown(s.config, int(owner.Uid), int(owner.Gid))); err != nil {
				return err
			}
		}
		if err := c.startPatroni(s); err != nil {
			return err
		}
		// The first one makes the cluster, the others copy it.
		if err := eventually(ctx, 90*time.Second, s.name+" serves", func() bool { return s.is("/health") }); err != nil {
			return fmt.Errorf("%w\n%s", err, c.tail(s.name))
		}
	}
	if err := c.whole(ctx, 60*time.Second); err != nil {
		return err
	}
	// Any server may have become primary, so they are made where the primary is by now.
	for _, sql := range []string{
		"CREATE ROLE pikarc LOGIN PASSWORD '" + databasePassword + "'", "CREATE DATABASE pikarc OWNER pikarc",
	} {
		psql := exec.CommandContext(ctx, filepath.Join(c.bin, "psql"), "-v", "ON_ERROR_STOP=1", "-qc", sql,
			fmt.Sprintf("postgres://postgres:change-this@127.0.0.1:%d/postgres", c.leader().port))
		if out, err := psql.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

// startPatroni starts a server's Patroni, which starts PostgreSQL. killPrimary calls it
// again: the former primary then follows the new one.
func (c *cluster) startPatroni(s *server) error {
	owner, err := somebody()
	if err != nil {
		return err
	}
	s.patroni, err = c.launcher.start(s.name, owner, []string{"HOME=" + filepath.Dir(s.data)}, "patroni", s.config)
	return err
}

// is asks Patroni's API, whose 200 says yes.
func (s *server) is(path string) bool {
	client := http.Client{Timeout: time.Second}
	answer, err := client.Get(fmt.Sprint("http://127.0.0.1:", s.rest, path))
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// leader is the primary, or nil.
func (c *cluster) leader() *server {
	for _, s := range c.servers {
		if s.is("/primary") {
			return s
		}
	}
	return nil
}

// whole waits for a primary that has a synchronous standby, and another one.
func (c *cluster) whole(ctx context.Context, within time.Duration) error {
	return eventually(ctx, within, "there is a primary with two standbys", func() bool {
		var primaries, replicas, sync int
		for _, s := range c.servers {
			switch {
			case s.is("/primary"):
				primaries++
			// A synchronous standby answers /replica with yes as well, so this is asked first.
			case s.is("/sync"):
				sync++
				replicas++
			case s.is("/replica"):
				replicas++
			}
		}
		return primaries == 1 && sync == 1 && replicas == 2
	})
}

// startHAProxy starts HAProxy with two jobs: it passes agents' calls to the nodes that
// are ready, and the nodes' connections to the server that Patroni calls primary.
func (c *cluster) startHAProxy(ctx context.Context) error {
	front, err := freePort()
	if err != nil {
		return err
	}
	c.url = fmt.Sprint("http://127.0.0.1:", front)
	pairs := []string{"bind :8000", fmt.Sprint("bind 127.0.0.1:", front), "bind 127.0.0.1:5000", fmt.Sprint("bind 127.0.0.1:", c.primary)}
	for i, n := range c.nodes {
		pairs = append(pairs, fmt.Sprintf("10.0.0.%d:8000", 11+i), fmt.Sprint("127.0.0.1:", n.port))
	}
	for i, s := range c.servers {
		pairs = append(pairs, fmt.Sprintf("10.0.0.%d:5432 check port 8008", 21+i), fmt.Sprintf("127.0.0.1:%d check port %d", s.port, s.rest))
	}
	text, err := c.substituted("haproxy.cfg", pairs...)
	if err != nil {
		return err
	}
	c.stats = filepath.Join(c.dir, "haproxy.sock")
	text = strings.Replace(text, "global\n", "global\n\tstats socket "+c.stats+"\n", 1)
	config := filepath.Join(c.dir, "haproxy.cfg")
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "haproxy", "-c", "-f", config).CombinedOutput(); err != nil {
		return fmt.Errorf("haproxy -c: %w: %s", err, out)
	}
	_, err = c.launcher.start("haproxy", nil, nil, "haproxy", "-db", "-f", config)
	return err
}

// bothInUse reports whether both nodes are ready and HAProxy knows it: it learns that from
// checks of its own, which a busy machine delays.
func (c *cluster) bothInUse() bool {
	calls, err := c.callsByNode()
	return err == nil && len(calls) == len(c.nodes) && c.nodes[0].ready() && c.nodes[1].ready()
}

// callsByNode asks HAProxy to which nodes it sends calls, and how many it has sent.
func (c *cluster) callsByNode() (calls map[string]int, err error) {
	conn, err := net.DialTimeout("unix", c.stats, time.Second)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	err = errors.Join(conn.SetDeadline(time.Now().Add(time.Second)), func() error {
		_, err := conn.Write([]byte("show stat\n"))
		return err
	}())
	if err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(conn).ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, errors.Join(errors.New("HAProxy tells nothing"), err)
	}
	column := func(row []string, name string) string { return row[slices.Index(rows[0], name)] }
	calls = make(map[string]int)
	for _, row := range rows[1:] {
		name := column(row, "svname")
		if column(row, "# pxname") == "nodes" && strings.HasPrefix(name, "node") && strings.HasPrefix(column(row, "status"), "UP") {
			if calls[name], err = strconv.Atoi(column(row, "stot")); err != nil {
				return nil, err
			}
		}
	}
	return calls, nil
}

// startNodes starts the nodes one after another: the first one makes the tables. Each has
// a link of its own to PostgreSQL, so that one can be cut off alone.
func (c *cluster) startNodes(ctx context.Context) (err error) {
	for _, n := range c.nodes {
		if n.link, err = newLink(fmt.Sprint("127.0.0.1:", c.primary)); err != nil {
			return err
		}
		if err := c.startNode(n); err != nil {
			return err
		}
		if err := eventually(ctx, 60*time.Second, n.name+" is ready", n.ready); err != nil {
			return fmt.Errorf("%w\n%s", err, c.tail(n.name))
		}
	}
	return nil
}

// environment is what each of our processes is given. HAProxy stands before the nodes, so
// they take the address of a client from what it forwards.
func (c *cluster) environment(database string) []string {
	return []string{"PIKARC_DATABASE=" + database, "PIKARC_SECRET=" + serverSecret, "PIKARC_TRUSTED_PROXIES=127.0.0.1"}
}

// database is the URL of the database at a port of the loopback: HAProxy's, or that of a
// link.
func database(port string) string {
	return "postgres://pikarc:" + databasePassword + "@127.0.0.1:" + port + "/pikarc?sslmode=disable"
}

// startNode starts a node, the first time or after it was killed: with the same port, so
// that HAProxy finds it again, and with the same directory.
func (c *cluster) startNode(n *node) (err error) {
	_, port, _ := strings.Cut(n.link.Addr().String(), ":")
	n.run, err = c.launcher.start(n.name, nil, c.environment(database(port)), c.pikarc, "serve",
		"--addr", fmt.Sprint("127.0.0.1:", n.port), "--data-dir", filepath.Join(c.dir, n.name), "--log-level", "warn", "--wait", "60s")
	return err
}

// ready asks the node itself, as HAProxy's check does.
func (n *node) ready() bool {
	client := http.Client{Timeout: time.Second}
	answer, err := client.Get(fmt.Sprint("http://127.0.0.1:", n.port, "/health/ready"))
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// command runs one of ours on the database.
func (c *cluster) command(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.pikarc, args...)
	cmd.Env = append(os.Environ(), c.environment(database(fmt.Sprint(c.primary)))...)
	cmd.Stdin, cmd.Dir = strings.NewReader(stdin), c.dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("pikarc %s: %w: %s%s", args[0], err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// workspace makes an account, and returns the key of its agents.
func (c *cluster) workspace(ctx context.Context, l *load, email string) (key string, err error) {
	out, err := c.command(ctx, accountPassword+"\n", "create-user", "--email", email, "--plan", "enterprise", "--password-stdin", "--json")
	if err != nil {
		return "", err
	}
	var made struct {
		Key string `json:"api_key"`
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		return "", err
	}
	status, text, err := l.call(ctx, "", "POST", "/v1/auth/login", "", map[string]string{"email": email, "password": accountPassword})
	if err != nil || status != http.StatusOK {
		return "", fmt.Errorf("sign in: %d %s: %w", status, text, err)
	}
	var session struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(text, &session); err != nil {
		return "", err
	}
	// No agent is to be denied: the load takes a denial for a broken promise.
	status, text, err = l.call(ctx, session.Token, "PATCH", "/v1/workspace/", "", map[string]any{"max_concurrent_runs": 10_000})
	if err != nil || status != http.StatusOK {
		return "", fmt.Errorf("set the limits: %d %s: %w", status, text, err)
	}
	return made.Key, nil
}

// end ends all that was started. Patroni goes first: it would start its PostgreSQL again.
func (c *cluster) end() {
	for _, s := range c.servers {
		if s.patroni != nil {
			s.patroni.kill()
		}
	}
	for _, s := range c.servers {
		killPostgres(s.data)
	}
	c.killAll()
}
