// Package clients lists and reads the packages that the binary carries: the
// client libraries which match this server, as pip and npm install them.
package clients

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"strings"
)

// File is a package of a client library.
type File struct {
	Name    string `json:"file"`
	Bytes   int    `json:"bytes"`
	SHA256  string `json:"sha256"` // in hexadecimal
	Content []byte `json:"-"`
}

// Installer is the command that installs the file, less the file's address.
func (f File) Installer() string {
	if strings.HasSuffix(f.Name, ".tgz") {
		return "npm install"
	}
	return "pip install"
}

// ContentType is as pip and npm know such files.
func (f File) ContentType() string {
	switch path.Ext(f.Name) {
	case ".tgz", ".gz":
		return "application/gzip"
	default: // a wheel
		return "application/zip"
	}
}

// ETag changes with the file's content.
func (f File) ETag() string { return `"` + f.SHA256[:24] + `"` }

// Read reads the packages, by name; none where nothing was packed
// or files is nil.
func Read(files fs.FS) ([]File, error) {
	found := []File{}
	if files == nil {
		return found, nil
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("read the clients' packages: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || !strings.HasSuffix(name, ".whl") &&
			!strings.HasSuffix(name, ".tar.gz") && !strings.HasSuffix(name, ".tgz") {
			continue
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read a client's package: %w", err)
		}
		sum := sha256.Sum256(content)
		found = append(found, File{Name: name, Bytes: len(content),
			SHA256: hex.EncodeToString(sum[:]), Content: content})
	}
	return found, nil
}

// Page makes the page of links for people and for pip's --find-links. base is
// the path below which the server is served: "" for the root.
func Page(files []File, base string) ([]byte, error) {
	t, err := template.New("page").Parse(page)
	if err != nil {
		return nil, fmt.Errorf("read the page's template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, map[string]any{"Files": files, "At": base +
		"/clients/"}); err != nil {
		return nil, fmt.Errorf("write the page of clients: %w", err)
	}
	return out.Bytes(), nil
}

// pip takes what follows the # as the hash that the file must have.
const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Clients of this Pikarc server</title>
</head>
<body>
<h1>Clients of this Pikarc server</h1>
{{if .Files}}<p>These match this server. Install one by its address, which is this page's with the file's name.</p>
<dl>
{{range .Files}}<dt><a href="{{$.At}}{{.Name}}#sha256={{.SHA256}}">{{.Name}}</a></dt>
<dd>{{.Installer}}, {{.Bytes}} bytes<br>SHA-256 {{.SHA256}}</dd>
{{end}}</dl>
{{else}}<p>This binary was built without the client libraries. Build it where Python 3.11 or later, with venv, and npm are, and
they are inside:</p>
<pre>make build</pre>
{{end}}<p>The Go client is a module: <code>go get github.com/pikarc/server/clients/go</code></p>
</body>
</html>
`
