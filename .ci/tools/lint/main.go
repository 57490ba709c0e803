// Command lint holds the analyzers that ask about contexts and errors. It runs
// as go vet's tool: go vet -vettool=lint ./...
package main

import (
	"strings"

	"github.com/jingyugao/rowserrcheck/passes/rowserr"
	"github.com/kkHAIKE/contextcheck"
	"github.com/polyfloyd/go-errorlint/errorlint"
	"github.com/sonatard/noctx"
	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/unitchecker"
)

func main() {
	unitchecker.Main(
		ours(contextcheck.NewAnalyzer(contextcheck.Configuration{})),
		ours(noctx.Analyzer),
		errorlint.NewAnalyzer(),
		rowserr.NewAnalyzer(),
		ours(transactions),
	)
}

// ours narrows an analyzer to the code that serves. Libraries make contexts of
// their own inside, which is no fault of who calls them, and a test ends what it
// has begun.
func ours(a *analysis.Analyzer) *analysis.Analyzer {
	run := a.Run
	a.Run = func(pass *analysis.Pass) (any, error) {
		if !strings.HasPrefix(pass.Pkg.Path(), "github.com/pikarc/server") {
			return nil, nil
		}
		report := pass.Report
		pass.Report = func(d analysis.Diagnostic) {
			if !strings.HasSuffix(pass.Fset.Position(d.Pos).Filename, "_test.go") {
				report(d)
			}
		}
		return run(pass)
	}
	return a
}
