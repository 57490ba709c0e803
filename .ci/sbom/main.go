// Command sbom writes what a Go binary is made of as a CycloneDX document, from
// what the linker has left in it, and what the dashboard's build says that it
// took: exactly what is inside, and nothing else.
//
//	go run ./.ci/sbom BINARY VERSION DASHBOARD_PARTS > BINARY.cdx.json
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
)

type component struct {
	Type    string `json:"type"`
	Ref     string `json:"bom-ref"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl,omitempty"`
	Hashes  []hash `json:"hashes,omitempty"`
}

type hash struct {
	Alg     string `json:"alg"`
	Content string `json:"content"`
}

// document has no serial number and no time: the same binary has the same one.
type document struct {
	Format   string `json:"bomFormat"`
	Spec     string `json:"specVersion"`
	Version  int    `json:"version"`
	Metadata struct {
		Component component `json:"component"`
	} `json:"metadata"`
	Components []component `json:"components"`
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: sbom BINARY VERSION DASHBOARD_PARTS")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func write(path, version, dashboard string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	d := document{Format: "CycloneDX", Spec: "1.6", Version: 1}
	d.Metadata.Component = component{
		Type: "application", Ref: "pikarc", Name: info.Main.Path, Version: version,
		Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}},
	}
	d.Components = append(d.Components, component{
		Type: "library", Ref: "std", Name: "std", Version: info.GoVersion, PURL: "pkg:golang/std@" + info.GoVersion[2:],
	})
	for _, m := range info.Deps {
		d.Components = append(d.Components, of(m))
	}
	packages, err := packagesOf(dashboard)
	if err != nil {
		return err
	}
	d.Components = append(d.Components, packages...)
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(d)
}

// packagesOf reads what embed/dashboard/parts.ts writes.
func packagesOf(path string) (all []component, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var packages []struct{ Name, Version string }
	if err := json.Unmarshal(content, &packages); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, p := range packages {
		purl := "pkg:npm/" + strings.Replace(p.Name, "@", "%40", 1) + "@" + url.QueryEscape(p.Version)
		all = append(all, component{Type: "library", Ref: purl, Name: p.Name, Version: p.Version, PURL: purl})
	}
	return all, nil
}

func of(m *debug.Module) component {
	if m.Replace != nil {
		m = m.Replace
	}
	purl := "pkg:golang/" + m.Path + "@" + url.QueryEscape(m.Version)
	return component{Type: "library", Ref: purl, Name: m.Path, Version: m.Version, PURL: purl}
}
