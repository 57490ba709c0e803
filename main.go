// Command pikarc is Pikarc Server: agents ask it before each model and tool
// call, and people watch and steer them.
package main

import (
	"context"
	"os"

	"github.com/pikarc/server/cli"
)

func main() { os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
