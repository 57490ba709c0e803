package main

import (
	"go/ast"
	"go/constant"
	"go/types"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// transactions reports statements that begin or end a transaction under a context
// that may be cancelled. A driver may answer "cancelled" to a statement that
// SQLite obeyed, and then nobody knows whether there is a transaction.
var transactions = &analysis.Analyzer{
	Name: "transactions",
	Doc:  "report BEGIN, COMMIT and ROLLBACK under a context that may be cancelled",
	Run:  findTransactions,
}

func findTransactions(pass *analysis.Pass) (any, error) {
	for _, file := range pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > 1 {
				check(pass, file, call)
			}
			return true
		})
	}
	return nil, nil
}

// check takes a call whose first argument is a context, and whose second is a constant text.
func check(pass *analysis.Pass, file *ast.File, call *ast.CallExpr) {
	name, isContext := pass.TypesInfo.TypeOf(call.Args[0]).(*types.Named)
	if !isContext || name.String() != "context.Context" {
		return
	}
	query := pass.TypesInfo.Types[call.Args[1]].Value
	if query == nil || query.Kind() != constant.String || !speaksOfTransactions(constant.StringVal(query)) {
		return
	}
	if !isUncancellable(pass, file, call.Args[0]) {
		pass.ReportRangef(call, "a transaction statement runs under a context that may be cancelled: use context.WithoutCancel")
	}
}

func speaksOfTransactions(query string) bool {
	words := strings.FieldsFunc(strings.ToUpper(query), func(r rune) bool { return r == ' ' || r == ';' || r == '\n' || r == '\t' })
	if len(words) == 0 {
		return false
	}
	switch words[0] {
	case "BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE":
		return true
	}
	return false
}

// isUncancellable reports whether an expression is a context without a parent's
// end, or a variable that was declared as one.
func isUncancellable(pass *analysis.Pass, file *ast.File, context ast.Expr) bool {
	if name, ok := context.(*ast.Ident); ok {
		return declaredUncancellable(pass, file, pass.TypesInfo.ObjectOf(name))
	}
	call, ok := context.(*ast.CallExpr)
	if !ok {
		return false
	}
	function, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	object := pass.TypesInfo.ObjectOf(function.Sel)
	if object == nil || object.Pkg() == nil || object.Pkg().Path() != "context" {
		return false
	}
	return object.Name() == "Background" || object.Name() == "WithoutCancel"
}

func declaredUncancellable(pass *analysis.Pass, file *ast.File, variable types.Object) (found bool) {
	ast.Inspect(file, func(n ast.Node) bool {
		assign, ok := n.(*ast.AssignStmt)
		if !ok || len(assign.Lhs) != 1 || len(assign.Rhs) != 1 {
			return true
		}
		name, ok := assign.Lhs[0].(*ast.Ident)
		if ok && pass.TypesInfo.ObjectOf(name) == variable {
			_, isCall := assign.Rhs[0].(*ast.CallExpr)
			found = isCall && isUncancellable(pass, file, assign.Rhs[0])
		}
		return true
	})
	return found
}
