package clients_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pikarc/server/server/clients"
)

func TestOnlyPackagesAreListedEachWithItsHash(t *testing.T) {
	t.Parallel()
	files, err := clients.Read(fstest.MapFS{
		".gitkeep": {}, "notes.txt": {Data: []byte("x")}, "pikarc.tgz": {Data: []byte("for npm")},
		"pikarc-1.0.0-py3-none-any.whl": {Data: []byte("a wheel")}, "pikarc-1.0.0.tar.gz": {Data: []byte("a source")},
		"below/pikarc.tgz": {Data: []byte("x")},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][2]string{
		"pikarc-1.0.0-py3-none-any.whl": {"a wheel", "pip install"}, "pikarc-1.0.0.tar.gz": {"a source", "pip install"},
		"pikarc.tgz": {"for npm", "npm install"},
	}
	if len(files) != len(want) {
		t.Errorf("it lists %v", files)
	}
	page, err := clients.Page(files, "/pikarc")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		sum := sha256.Sum256([]byte(want[f.Name][0]))
		hash := hex.EncodeToString(sum[:])
		if f.SHA256 != hash || f.Bytes != len(want[f.Name][0]) || f.Installer() != want[f.Name][1] {
			t.Errorf("%s is listed as %d bytes, %s, %s", f.Name, f.Bytes, f.SHA256, f.Installer())
		}
		if link := `<a href="/pikarc/clients/` + f.Name + "#sha256=" + hash + `">`; !strings.Contains(string(page), link) {
			t.Errorf("the page has no %s:\n%s", link, page)
		}
	}
}

func TestWhereNothingWasPackedThePageSaysHowTo(t *testing.T) {
	t.Parallel()
	files, err := clients.Read(fstest.MapFS{".gitkeep": {}})
	if err != nil {
		t.Fatal(err)
	}
	page, err := clients.Page(files, "")
	if err != nil || !strings.Contains(string(page), "make build") || strings.Contains(string(page), "<a ") {
		t.Errorf("%v\n%s", err, page)
	}
}
