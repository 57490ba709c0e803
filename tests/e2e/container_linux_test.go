package e2e_test

import (
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// image is what the Dockerfile makes of the binary, run without an engine: its
// files in a directory that is the root of its processes, its user, its
// settings, and a network of its own, in which, as in Docker, anybody may
// listen on low ports.
type image struct {
	root               string
	settings           []string
	entrypoint, health []string
	uid                int
	inside             chan func()
}

// instruction reads the last one of its kind from the Dockerfile.
func instruction(t *testing.T, dockerfile, name string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^`+name+` (.*)$`).FindAllStringSubmatch(dockerfile, -1)
	if found == nil {
		t.Fatalf("the Dockerfile has no %s", name)
	}
	return found[len(found)-1][1]
}

func words(t *testing.T, list string) (all []string) {
	t.Helper()
	if err := json.Unmarshal([]byte(list[strings.Index(list, "["):]), &all); err != nil {
		t.Fatalf("%v in %s", err, list)
	}
	return all
}

func layOut(t *testing.T) *image {
	t.Helper()
	content, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	dockerfile := string(content)
	i := &image{
		root: serviceDir(t), settings: strings.Fields(instruction(t, dockerfile, "ENV")), uid: 65532, inside: make(chan func()),
		entrypoint: append(words(t, instruction(t, dockerfile, "ENTRYPOINT")), words(t, instruction(t, dockerfile, "CMD"))...),
		health:     words(t, instruction(t, dockerfile, "HEALTHCHECK")),
	}
	if user := instruction(t, dockerfile, "USER"); user != "65532:65532" {
		t.Fatalf("the image's user is %s", user)
	}
	copyFile(t, pikarc, filepath.Join(i.root, "pikarc"))
	for _, change := range []error{
		os.Chmod(i.root, 0o755), os.Mkdir(i.data(), 0o700), os.Chown(i.data(), i.uid, i.uid),
	} {
		if change != nil {
			t.Fatal(change)
		}
	}
	ready := make(chan error)
	go i.live(ready)
	if err := <-ready; err != nil {
		t.Fatalf("a network of its own (this test needs root): %v", err)
	}
	t.Cleanup(func() { close(i.inside) })
	return i
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o755); err != nil {
		t.Fatal(err)
	}
}

func (i *image) data() string { return filepath.Join(i.root, "data") }

// live is a thread in the container's network: what it starts is there too. It
// ends with the test, and the thread with it, because it is never unlocked.
func (i *image) live(ready chan<- error) {
	runtime.LockOSThread()
	ready <- enterNetwork()
	for do := range i.inside {
		do()
	}
}

func enterNetwork() error {
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		return err
	}
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(socket)
	up := struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{flags: syscall.IFF_UP}
	copy(up.name[:], "lo")
	_, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(socket), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&up)))
	if e != 0 {
		return e
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
}

func (i *image) command(settings []string, line ...string) *exec.Cmd {
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir, cmd.Env = "/", append(append([]string{}, i.settings...), settings...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: i.root, Credential: &syscall.Credential{Uid: uint32(i.uid), Gid: uint32(i.uid)},
	}
	return cmd
}

// start runs the image as `docker run` does.
func (i *image) start(t *testing.T, settings ...string) *process {
	t.Helper()
	p := &process{cmd: i.command(settings, i.entrypoint...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	started := make(chan error)
	i.inside <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(p.kill)
	return p
}

// healthy runs the image's own health check until it succeeds.
func (i *image) healthy(t *testing.T, p *process, settings ...string) {
	t.Helper()
	var said []byte
	deadline := time.Now().Add(patience)
	for {
		var err error
		done := make(chan struct{})
		i.inside <- func() {
			defer close(done)
			said, err = i.command(settings, i.health...).CombinedOutput()
		}
		<-done
		if err == nil && string(said) == "ready\n" {
			return
		}
		if p.hasEnded() || time.Now().After(deadline) {
			t.Fatalf("the health check says %s (ended: %v)\nstdout: %s\nstderr: %s", said, p.hasEnded(), &p.stdout, &p.stderr)
		}
	}
}

// Case 27: the image's own address kept a server with a domain from its ports,
// and its health check did not know of TLS.
func TestTheImageServesAsItsSettingsSayAndKnowsItselfHealthy(t *testing.T) {
	t.Parallel()
	i := layOut(t)
	c := writeCertificate(t, i.data(), 1)
	const domain = "pikarc.example.test"
	keepForACME(t, i.data(), domain)
	for _, file := range []string{c.cert, c.key} {
		if err := os.Chown(file, i.uid, i.uid); err != nil {
			t.Fatal(err)
		}
	}
	for _, run := range []struct {
		name     string
		settings []string
		says     []string
	}{
		{"as it is", nil, []string{"serves http://localhost:8000\n"}},
		{"below a path", []string{"PIKARC_BASE_PATH=/pikarc"}, []string{"serves http://localhost:8000/pikarc\n"}},
		{"a certificate", []string{"PIKARC_TLS_CERT=/data/cert.pem", "PIKARC_TLS_KEY=/data/key.pem"}, []string{"serves https://localhost:8000\n"}},
		{"a certificate, on its port", []string{"PIKARC_TLS_CERT=/data/cert.pem", "PIKARC_TLS_KEY=/data/key.pem", "PIKARC_ADDR=:443"},
			[]string{"serves https://localhost:443\n"}},
		{"a domain", []string{"PIKARC_TLS_DOMAIN=" + domain}, []string{"serves https://" + domain + "\n", "address=[::]:80"}},
		{"a domain, elsewhere", []string{"PIKARC_TLS_DOMAIN=" + domain, "PIKARC_ADDR=0.0.0.0:8443"}, []string{"serves https://" + domain + ":8443\n"}},
	} {
		p := i.start(t, run.settings...)
		i.healthy(t, p, run.settings...)
		p.stop(t)
		for _, words := range run.says {
			if !strings.Contains(p.stdout.String()+p.stderr.String(), words) {
				t.Errorf("%s: without %q:\n%s%s", run.name, words, &p.stdout, &p.stderr)
			}
		}
	}
	belongsTo(t, i.data(), i.uid, "all of it")
}

// The demo reads the image's address too, and has the port that people publish.
func TestTheImageServesTheDemoOnItsPort(t *testing.T) {
	t.Parallel()
	i := layOut(t)
	i.entrypoint = []string{i.entrypoint[0], "demo"}
	p := i.start(t)
	p.await(t, "serves the demo", func() bool { return strings.Contains(p.stdout.String(), "serves a demo: http://localhost:8000/\n") })
	i.healthy(t, p)
	p.stop(t)
}

// keepForACME puts a certificate where a server finds what it got before.
func keepForACME(t *testing.T, data, domain string) {
	t.Helper()
	dir := filepath.Join(data, "certificates")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c := writeCertificateFor(t, t.TempDir(), 2, domain)
	var kept []byte
	for _, file := range []string{c.key, c.cert} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if block, _ := pem.Decode(content); block == nil {
			t.Fatalf("%s holds no PEM", file)
		}
		kept = append(kept, content...)
	}
	if err := os.WriteFile(filepath.Join(dir, domain), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, domain)} {
		if err := os.Chown(path, 65532, 65532); err != nil {
			t.Fatal(err)
		}
	}
}

// Case 37, as the image meets it.
func TestTheImageOnADirectoryOfTheHostsSaysTheLineThatMendsIt(t *testing.T) {
	t.Parallel()
	i := layOut(t)
	if err := os.Chown(i.data(), 0, 0); err != nil {
		t.Fatal(err)
	}
	p := i.start(t)
	if code := p.exit(t).ExitCode(); code != 1 || !strings.Contains(p.stderr.String(), "belongs to uid 0") ||
		!strings.Contains(p.stderr.String(), "chown -R 65532:65532 /data") {
		t.Errorf("exit code %d: %s", code, &p.stderr)
	}
	if err := os.Chown(i.data(), i.uid, i.uid); err != nil {
		t.Fatal(err)
	}
	p = i.start(t)
	i.healthy(t, p)
}

// What the image is built from is listed twice: in go list, and in .dockerignore.
func TestTheImageIsBuiltFromEveryPackageOfTheBinary(t *testing.T) {
	t.Parallel()
	ignored, err := os.ReadFile(".dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "list", "-deps", "-f", `{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dir := range strings.FieldsSeq(string(out)) {
		below, err := filepath.Rel(root, dir)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(below, string(filepath.Separator))
		if first != "." && !strings.Contains("\n"+string(ignored), "\n!"+first+"\n") {
			t.Errorf("%s is not let into the image's build", below)
		}
	}
}
